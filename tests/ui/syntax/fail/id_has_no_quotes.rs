//! An id is a text. Write it in quotes.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(id = "orders.placed")]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(id = orders.placed)]
struct OrderPlaced;

fn main() {}
