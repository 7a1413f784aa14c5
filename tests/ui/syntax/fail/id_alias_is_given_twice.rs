//! An earlier id is named once. Remove one of the two.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(aliases("OrderReceived"))]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(aliases("OrderReceived", "OrderReceived"))]
struct OrderPlaced;

fn main() {}
