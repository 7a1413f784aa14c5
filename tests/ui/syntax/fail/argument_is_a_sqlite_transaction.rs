//! evented begins the transaction and commits it together with the delivery, so the handler takes evented's own type.
//! It derefs to the one of sqlx.
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

use evented::sqlx::SqliteTransaction;

#[handler(PaymentCaptured, outbox)]
async fn book(event: PaymentCaptured, tx: &mut SqliteTransaction<'_>) {}

fn main() {}
