//! The event is a type, which the compiler must find. Leave out the quotes.
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

#[handler("OrderPlaced")]
fn count(event: &OrderPlaced) {}

fn main() {}
