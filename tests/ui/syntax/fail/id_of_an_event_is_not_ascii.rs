//! An event without an `id` has its type's name as id, and ids are ASCII: other letters have more than one spelling.
//! Give it an `id`.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(id = "Order")]
//! struct Beställning;
//! ```

use evented::prelude::*;

#[event]
struct Beställning;

fn main() {}
