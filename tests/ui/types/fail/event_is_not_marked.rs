//! A type becomes an event by its attribute: that names it, and keeps its handlers. Write `#[event]` above the type.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! struct OrderShipped;
//!
//! #[handler(OrderShipped)]
//! fn inform(event: &OrderShipped) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

struct OrderShipped;

#[handler(OrderShipped)]
fn inform(event: &OrderShipped) {}

fn main() {}
