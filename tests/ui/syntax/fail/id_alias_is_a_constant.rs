//! Attributes are read before constants have values. Write the text itself.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(aliases("OrderReceived"))]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

const RECEIVED: &str = "OrderReceived";

#[event(aliases(RECEIVED))]
struct OrderPlaced;

fn main() {}
