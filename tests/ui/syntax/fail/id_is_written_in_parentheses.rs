//! An id is one value, and not a list. Write it with `=`.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(id = "orders.placed")]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(id("orders.placed"))]
struct OrderPlaced;

fn main() {}
