//! A slash separates an event's id from the name of its handler, so neither of them has one. Write a dot.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(id = "orders.placed")]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(id = "orders/placed")]
struct OrderPlaced;

fn main() {}
