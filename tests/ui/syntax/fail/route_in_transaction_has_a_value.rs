//! `in_transaction` is true where it stands, and false where it is absent. Write it without a value.
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

#[handler(PaymentCaptured, in_process(in_transaction = true))]
fn check(event: &PaymentCaptured) {}

fn main() {}
