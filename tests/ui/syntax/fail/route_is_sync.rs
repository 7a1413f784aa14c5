//! What runs before `emit` returns is on the route `in_process`, which is also the default. Write that, or nothing.
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

#[handler(OrderPlaced, sync)]
fn count(event: &OrderPlaced) {}

fn main() {}
