//! A version is a number, and a text is none. Leave out the quotes.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(version = 2)]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(version = "2")]
struct OrderPlaced;

fn main() {}
