//! A query on a transaction is awaited, and a plain `fn` cannot await. Write `async fn`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event(transactional)] #[derive(serde::Serialize, serde::Deserialize)] struct PaymentCaptured;
//! #[handler(PaymentCaptured, outbox)]
//! async fn book(event: PaymentCaptured, tx: &mut Tx<Sqlite>) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

#[handler(PaymentCaptured, outbox)]
fn book(event: PaymentCaptured, tx: &mut Tx<Sqlite>) {}

fn main() {}
