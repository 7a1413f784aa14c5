//! The event lives as long as the handler runs, and no longer. Leave the lifetime out.
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
fn count(event: &'static OrderPlaced) {}

fn main() {}
