//! `in_transaction` says when an `in_process` handler runs: before the commit. Write it inside that route.
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

#[handler(PaymentCaptured, in_transaction)]
fn check(event: &PaymentCaptured) {}

fn main() {}
