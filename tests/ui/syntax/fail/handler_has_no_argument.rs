//! A handler is called with the event, also where it does not look at it. Take it as the first argument.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced)]
//! fn count(_event: &OrderPlaced) {}
//! ```

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
fn count() {}

fn main() {}
