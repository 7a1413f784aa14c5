//! A handler is registered once, and nobody calls it with a number for its const parameter. Write the number in the
//! function.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! const STEP: u64 = 1;
//!
//! #[handler(OrderPlaced)]
//! fn count(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
fn count<const STEP: u64>(event: &OrderPlaced) {}

fn main() {}
