//! What is stored must be read again: a worker makes the event of its payload. Derive `Deserialize` beside `Serialize`.
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

#[event(transactional)]
#[derive(serde::Serialize)]
struct PaymentCaptured;

#[handler(PaymentCaptured, outbox)]
async fn book(event: PaymentCaptured) {}

fn main() {}
