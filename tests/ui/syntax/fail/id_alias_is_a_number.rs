//! An alias is an earlier id, and ids are texts. Write it in quotes.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(aliases("17"))]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(aliases(17))]
struct OrderPlaced;

fn main() {}
