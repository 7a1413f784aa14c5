//! Which argument is the event must be known where the attribute is read, which is before `#[cfg]` is. The arguments after
//! it may have a `#[cfg]`; for the event, put it on the function.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(Clone)] struct OrderPlaced;
//! #[cfg(unix)]
//! #[handler(OrderPlaced)]
//! fn count(event: &OrderPlaced) {}
//!
//! #[cfg(not(unix))]
//! #[handler(OrderPlaced)]
//! fn count(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
fn count(#[cfg(unix)] event: &OrderPlaced) {}

fn main() {}
