//! An event has one id. Keep one of them; an earlier one is an alias.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(id = "orders.placed", aliases("order.placed"))]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(id = "order.placed", id = "orders.placed")]
struct OrderPlaced;

fn main() {}
