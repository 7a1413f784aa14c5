//! The id names the handler, whatever its route is. Write it after the route, not inside.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced, in_process, id = "orders.count")]
//! fn count(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced, in_process(id = "orders.count"))]
fn count(event: &OrderPlaced) {}

fn main() {}
