//! `impl Trait` as an argument makes a function generic, and evented would not know which value to pass. Write a type.
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

#[handler(OrderPlaced)]
fn count(event: &OrderPlaced, metrics: impl Clone) {}

fn main() {}
