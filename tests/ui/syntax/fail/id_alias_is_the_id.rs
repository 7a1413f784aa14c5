//! An alias is an earlier id, and this one is the id still. Remove the alias.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(id = "orders.placed")]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(id = "orders.placed", aliases("orders.placed"))]
struct OrderPlaced;

fn main() {}
