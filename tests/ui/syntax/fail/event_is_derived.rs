//! What makes a type an event is an attribute, which has options that a derive has no place for. Write `#[event]`.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[derive(Event)]
struct OrderPlaced;

fn main() {}
