//! The attribute is read before `#[cfg]` on an argument is, and cannot tell whether the argument is there. Put the
//! `#[cfg]` on the function.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! # struct Metrics;
//! #[cfg(unix)]
//! #[handler(OrderPlaced)]
//! fn count(event: &OrderPlaced, metrics: State<Metrics>) {}
//!
//! #[cfg(not(unix))]
//! #[handler(OrderPlaced)]
//! fn count(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

struct Metrics;

#[handler(OrderPlaced)]
fn count(event: &OrderPlaced, #[cfg(unix)] metrics: State<Metrics>) {}

fn main() {}
