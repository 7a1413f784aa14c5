//! The deliveries of `outbox` run after the commit, in a worker. A handler that runs before the commit is an
//! `in_process` one.
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

#[handler(PaymentCaptured, outbox(in_transaction))]
fn check(event: &PaymentCaptured) {}

fn main() {}
