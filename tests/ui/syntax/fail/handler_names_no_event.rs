//! The attribute knows types by their spelling only, so the event that a handler is for is written there. Name it
//! first.
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

#[handler]
fn count(event: &OrderPlaced) {}

fn main() {}
