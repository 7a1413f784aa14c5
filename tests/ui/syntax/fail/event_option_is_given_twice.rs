//! An option has one value, and it is not clear which one is meant. Keep one of them.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(version = 2)]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(version = 1, version = 2)]
struct OrderPlaced;

fn main() {}
