//! A handler runs when its event is emitted, which is never at compile time. Remove `const`.
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
const fn count(event: &OrderPlaced) {}

fn main() {}
