//! The attribute has several options, and a text alone may be the value of any. Write `id =` before it.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(id = "orders.placed")]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event("orders.placed")]
struct OrderPlaced;

fn main() {}
