//! Only the outbox can end a delivery and commit its handler's writes as one. Use `outbox`, or begin a transaction of
//! your own.
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

#[handler(PaymentCaptured, background)]
async fn book(event: PaymentCaptured, tx: &mut Tx<Sqlite>) {}

fn main() {}
