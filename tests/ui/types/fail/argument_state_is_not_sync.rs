//! Handlers on many threads share a state, and a `Cell` must not be shared so. Use an atomic or a `Mutex`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! use std::sync::atomic::AtomicU32;
//!
//! #[handler(OrderPlaced)]
//! fn count(event: &OrderPlaced, orders: State<AtomicU32>) {}
//! ```

#![allow(unused)]

use std::cell::Cell;

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
fn count(event: &OrderPlaced, orders: State<Cell<u32>>) {}

fn main() {}
