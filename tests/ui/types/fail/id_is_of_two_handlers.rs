//! A stored delivery names its handler by the id, so each has its own. Change one of the two.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! # #[event] struct OrderShipped;
//! #[handler(OrderPlaced, id = "mail.placed")]
//! fn confirm(event: &OrderPlaced) {}
//!
//! #[handler(OrderShipped, id = "mail.shipped")]
//! fn inform(event: &OrderShipped) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[event]
struct OrderShipped;

#[handler(OrderPlaced, id = "mail")]
fn confirm(event: &OrderPlaced) {}

#[handler(OrderShipped, id = "mail")]
fn inform(event: &OrderShipped) {}

fn main() {}
