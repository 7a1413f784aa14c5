//! What stores, logs and the catalogue call an event is its `id`. Write that.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(id = "orders.placed")]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(name = "orders.placed")]
struct OrderPlaced;

fn main() {}
