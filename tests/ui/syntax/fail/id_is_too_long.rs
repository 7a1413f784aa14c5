//! Ids are keys in stores, and columns for them end somewhere: after 100 letters. Take a shorter one.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(id = "orders.placed")]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(
    id = "orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders.orders",
)]
struct OrderPlaced;

fn main() {}
