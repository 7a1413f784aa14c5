//! There may be several earlier ids, so `aliases` has a list. Write them in parentheses.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(aliases("OrderReceived"))]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(aliases = "OrderReceived")]
struct OrderPlaced;

fn main() {}
