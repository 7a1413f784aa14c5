//! Attributes are read before constants have values. Write the text itself.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(id = "orders.placed")]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

const PLACED: &str = "orders.placed";

#[event(id = PLACED)]
struct OrderPlaced;

fn main() {}
