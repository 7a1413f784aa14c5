//! `id` alone does not say which one. Write it, or leave `id` out: then it is the type's name.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(id = "orders.placed")]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(id)]
struct OrderPlaced;

fn main() {}
