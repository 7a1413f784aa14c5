//! The version is that of the event, for all of its handlers. Write it where the event is declared.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(version = 2)]
//! struct OrderPlaced;
//!
//! #[handler(OrderPlaced)]
//! fn count(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced, version = 2)]
fn count(event: &OrderPlaced) {}

fn main() {}
