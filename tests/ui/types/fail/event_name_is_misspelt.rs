//! The attribute names the event's type as code does, and no such type is in scope. Correct its name, or import it.
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

#[handler(OrderPlacd)]
fn count(event: &OrderPlaced) {}

fn main() {}
