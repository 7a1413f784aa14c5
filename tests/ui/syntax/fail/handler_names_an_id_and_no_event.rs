//! The event comes first, then the options of the handler. Write the event before the `id`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced, id = "orders.count")]
//! fn count(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(id = "orders.count")]
fn count(event: &OrderPlaced) {}

fn main() {}
