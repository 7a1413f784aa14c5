//! The event is a handler's first argument, also where the function does not look at it. Take it before the others.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! # struct Metrics;
//! #[handler(OrderPlaced)]
//! fn count(_event: &OrderPlaced, metrics: State<Metrics>) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

struct Metrics;

#[handler(OrderPlaced)]
fn count(metrics: State<Metrics>) {}

fn main() {}
