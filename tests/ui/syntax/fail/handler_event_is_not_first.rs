//! The first argument is the event; the others are taken by their types, in any order. Move the event to the front.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! # struct Metrics;
//! #[handler(OrderPlaced)]
//! fn count(event: &OrderPlaced, metrics: State<Metrics>) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

struct Metrics;

#[handler(OrderPlaced)]
fn count(metrics: State<Metrics>, event: &OrderPlaced) {}

fn main() {}
