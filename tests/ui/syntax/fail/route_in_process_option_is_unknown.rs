//! The route `in_process` has one option, `in_transaction`. Take that, or none.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event(transactional)] #[derive(serde::Serialize, serde::Deserialize)] struct PaymentCaptured;
//! #[handler(PaymentCaptured, in_process(in_transaction))]
//! fn check(event: &PaymentCaptured) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

#[handler(PaymentCaptured, in_process(first))]
fn check(event: &PaymentCaptured) {}

fn main() {}
