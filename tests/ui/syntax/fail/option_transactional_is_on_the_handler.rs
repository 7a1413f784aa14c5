//! Whether an event is emitted inside a database transaction only is said where it is declared. A handler that runs
//! after the commit has the route `outbox`.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(transactional)]
//! # #[derive(serde::Serialize, serde::Deserialize)]
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

#[handler(PaymentCaptured, transactional)]
async fn book(event: PaymentCaptured) {}

fn main() {}
