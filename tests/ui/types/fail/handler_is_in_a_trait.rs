//! A function of a trait has as many bodies as the trait has types, and which one would run is not said. Mark a free
//! function.
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

trait Metrics {
    #[handler(OrderPlaced)]
    fn count(event: &OrderPlaced) {}
}

fn main() {}
