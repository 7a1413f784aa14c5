//! `emit` has no transaction for its handlers to run in. Declare the event transactional, or leave `in_transaction`
//! out.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced)]
//! fn check(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced, in_process(in_transaction))]
fn check(event: &OrderPlaced) {}

fn main() {}
