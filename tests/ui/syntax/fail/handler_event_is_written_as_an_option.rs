//! The event has no name of an option: it is the first word in the attribute. Write the type alone.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced)]
//! fn count(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(event = OrderPlaced)]
fn count(event: &OrderPlaced) {}

fn main() {}
