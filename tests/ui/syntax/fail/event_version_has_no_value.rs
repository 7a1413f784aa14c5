//! `version` alone does not say which one. Write the number.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(version = 2)]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(version)]
struct OrderPlaced;

fn main() {}
