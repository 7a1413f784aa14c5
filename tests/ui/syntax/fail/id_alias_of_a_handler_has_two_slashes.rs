//! An earlier id of a handler is one name, or `<event id>/<function name>` where it had none: that has one slash. Name
//! the id as it was.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced, aliases("OrderPlaced/send"))]
//! fn confirm(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced, aliases("shop/OrderPlaced/send"))]
fn confirm(event: &OrderPlaced) {}

fn main() {}
