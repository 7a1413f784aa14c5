//! The attribute names the event; whether the function borrows it is said by its argument. Leave out the `&`.
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

#[handler(&OrderPlaced)]
fn count(event: &OrderPlaced) {}

fn main() {}
