//! A route is a word of the attribute, no type and no value: `in_process`, `background` or `outbox`. Write it so.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced, in_process)]
//! fn count(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced, in-process)]
fn count(event: &OrderPlaced) {}

fn main() {}
