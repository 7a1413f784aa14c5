//! A handler is of one type: which types have a trait, nobody can list. Write a handler for each event, and share a
//! function.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! trait Notice { fn text(&self) -> String; }
//! # impl Notice for OrderPlaced { fn text(&self) -> String { String::new() } }
//! fn show(notice: &dyn Notice) {}
//!
//! #[handler(OrderPlaced)]
//! fn show_order(event: &OrderPlaced) {
//!     show(event);
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

trait Notice {}

#[handler(Notice)]
fn show(event: &dyn Notice) {}

fn main() {}
