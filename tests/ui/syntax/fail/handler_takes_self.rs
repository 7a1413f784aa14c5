//! A handler is called with the event alone: evented has no value to call a method on. Write a free function, and take
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

impl Metrics {
    #[handler(OrderPlaced)]
    fn count(&self, event: &OrderPlaced) {}
}

fn main() {}
