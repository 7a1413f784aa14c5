//! Versions are counted, so that a stored payload is read as the version that it was written in. Write a number, from
//! 1.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(version = 2)]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(version = "two")]
struct OrderPlaced;

fn main() {}
