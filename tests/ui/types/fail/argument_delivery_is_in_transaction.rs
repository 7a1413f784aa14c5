//! Inside `emit_in` nothing is delivered yet, and nothing tried again. Leave the argument out, or let the outbox
//! deliver.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event(transactional)] #[derive(serde::Serialize, serde::Deserialize)] struct PaymentCaptured;
//! #[handler(PaymentCaptured, outbox)]
//! async fn book(event: PaymentCaptured, delivery: Delivery) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

#[handler(PaymentCaptured, in_process(in_transaction))]
async fn book(event: &PaymentCaptured, delivery: Delivery) {}

fn main() {}
