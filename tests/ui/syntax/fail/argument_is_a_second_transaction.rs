//! A delivery has one transaction, and one `&mut` borrows it. Take it once, and use it for both.
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
async fn book(event: PaymentCaptured, tx: &mut Tx<Sqlite>, ledger: &mut Tx<Sqlite>) {}

fn main() {}
