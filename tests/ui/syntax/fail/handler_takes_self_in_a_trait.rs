//! A method of a trait is one function for each type that implements it, and a handler is one function. Write a free
//! function, and take shared data as `State<..>`.
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

trait Metrics {
    #[handler(OrderPlaced)]
    fn count(&self, event: &OrderPlaced) {}
}

fn main() {}
