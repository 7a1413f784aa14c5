//! Versions are counted from 1, which is also the version of an event that gives none.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(version = 1)]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(version = 0)]
struct OrderPlaced;

fn main() {}
