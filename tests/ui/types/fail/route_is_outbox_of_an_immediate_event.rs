//! What is in the outbox was written by the emitter's transaction, and `emit` has none. Declare the event
//! transactional, or write `background`.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(transactional)]
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct PaymentCaptured;
//!
//! #[handler(PaymentCaptured, outbox)]
//! async fn book(event: PaymentCaptured) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

#[handler(PaymentCaptured, outbox)]
async fn book(event: PaymentCaptured) {}

fn main() {}
