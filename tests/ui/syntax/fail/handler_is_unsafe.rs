//! evented calls the handler, and cannot keep the promises that an `unsafe fn` asks for. Keep them in an `unsafe` block
//! inside.
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
unsafe fn count(event: &OrderPlaced) {}

fn main() {}
