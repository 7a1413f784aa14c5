//! In-process handlers share the emitter's event, and one that takes it by value gets a copy. Take it by reference, or
//! derive `Clone` for it.
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

#[handler(OrderPlaced)]
fn count(event: OrderPlaced) {}

fn main() {}
