//! Handlers inside `emit_in` share the emitter's event, and one that takes it by value gets a copy. Take it by
//! reference, or derive `Clone` for it.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event(transactional)] #[derive(serde::Serialize, serde::Deserialize)] struct PaymentCaptured;
//! #[handler(PaymentCaptured, in_process(in_transaction))]
//! async fn book(event: &PaymentCaptured, tx: &mut Tx<Sqlite>) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

#[handler(PaymentCaptured, in_process(in_transaction))]
async fn book(event: PaymentCaptured, tx: &mut Tx<Sqlite>) {}

fn main() {}
