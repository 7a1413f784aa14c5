//! The id of an event has no slash, and so none of its earlier ids had one. Name the id as it was.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(aliases("orders.received"))]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(aliases("orders/received"))]
struct OrderPlaced;

fn main() {}
