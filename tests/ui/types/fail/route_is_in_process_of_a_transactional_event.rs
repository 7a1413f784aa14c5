//! Inside `emit_in` the event is not certain yet: the transaction may still be undone. Say `outbox` for after the
//! commit, or `in_transaction`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event(transactional)] #[derive(serde::Serialize, serde::Deserialize)] struct PaymentCaptured;
//! #[handler(PaymentCaptured, outbox)]
//! fn count(event: &PaymentCaptured) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

#[handler(PaymentCaptured)]
fn count(event: &PaymentCaptured) {}

fn main() {}
