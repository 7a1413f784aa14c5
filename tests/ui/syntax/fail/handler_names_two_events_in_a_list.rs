//! A handler is for one event, which is its first argument. Write one function for each event.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! # #[event] struct OrderReturned;
//! #[handler(OrderPlaced)]
//! fn count_placed(event: &OrderPlaced) {}
//!
//! #[handler(OrderReturned)]
//! fn count_returned(event: &OrderReturned) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[event]
struct OrderReturned;

#[handler([OrderPlaced, OrderReturned])]
fn count(event: &OrderPlaced) {}

fn main() {}
