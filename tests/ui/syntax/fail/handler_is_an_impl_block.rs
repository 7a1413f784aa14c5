//! A handler belongs to no value that its methods could be called on. Write a free function, and mark that; it takes
//! shared data as `State<..>`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! struct Metrics;
//!
//! #[handler(OrderPlaced)]
//! fn count(event: &OrderPlaced, metrics: State<Metrics>) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

struct Metrics;

#[handler(OrderPlaced)]
impl Metrics {
    fn count(&self, event: &OrderPlaced) {}
}

fn main() {}
