//! A handler is called from Rust. Remove `extern`; a foreign function is called inside the handler.
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

#[handler(OrderPlaced)]
extern "C" fn count(event: &OrderPlaced) {}

fn main() {}
