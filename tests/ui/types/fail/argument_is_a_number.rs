//! A handler is called with the event and with what `run()` was given. Put what differs from event to event in the
//! event.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! struct OrderPlaced {
//!     items: u32,
//! }
//!
//! #[handler(OrderPlaced)]
//! fn count(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
fn count(event: &OrderPlaced, items: u32) {}

fn main() {}
