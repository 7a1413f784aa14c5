//! The first argument is the event that the attribute names. Name the same type in both places.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderShipped;
//! #[handler(OrderShipped)]
//! fn count(event: &OrderShipped) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[event]
struct OrderShipped;

#[handler(OrderPlaced)]
fn count(event: &OrderShipped) {}

fn main() {}
