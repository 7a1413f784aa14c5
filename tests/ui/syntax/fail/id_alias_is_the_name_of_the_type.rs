//! An event without an `id` has the name of its type as id, so an alias of that name says nothing. Remove the alias.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(aliases("OrderPlaced"))]
struct OrderPlaced;

fn main() {}
