//! Attributes are read before constants have values. Write the number itself.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(version = 2)]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

const VERSION: u32 = 2;

#[event(version = VERSION)]
struct OrderPlaced;

fn main() {}
