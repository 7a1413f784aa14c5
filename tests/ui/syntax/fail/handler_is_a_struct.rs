//! A handler is a function, which is called with the event. A type that says what happened is marked `#[event]`.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[handler(OrderPlaced)]
struct OrderPlaced;

fn main() {}
