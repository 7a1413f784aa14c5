//! Ids stand in logs and in metrics, where a blank ends a word. Write a dot, `_` or `-`.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(id = "orders.placed")]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(id = "orders placed")]
struct OrderPlaced;

fn main() {}
