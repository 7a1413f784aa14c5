//! An event is of no topic: handlers name its type. What stores call it is its `id`. Write that, or nothing.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(id = "orders.placed")]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(topic = "orders.placed")]
struct OrderPlaced;

fn main() {}
