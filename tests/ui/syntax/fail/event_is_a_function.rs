//! An event is a value that says what happened, so `#[event]` marks a type. A function that reacts to an event is
//! marked `#[handler]`.
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

#[event]
fn count(event: &OrderPlaced) {}

fn main() {}
