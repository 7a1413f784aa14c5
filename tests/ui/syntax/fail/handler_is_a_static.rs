//! The attribute reads the arguments of a function, and a static that holds one does not show them. Write a function.
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
static COUNT: fn(&OrderPlaced) = |event| {};

fn main() {}
