//! The attribute reads the arguments of a function, and a constant that holds one does not show them. Write a function.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced)]
//! fn count(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
const COUNT: fn(&OrderPlaced) = |event| {};

fn main() {}
