//! `State<T>` is shared already, and cheap to pass on. Take it by value.
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
fn count(event: &OrderPlaced, metrics: &State<Metrics>) {}

fn main() {}
