//! `crate` is the path to evented, which the compiler must find. Leave out the quotes.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced, crate = evented)]
//! fn count(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced, crate = "evented")]
fn count(event: &OrderPlaced) {}

fn main() {}
