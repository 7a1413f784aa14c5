//! What is stored under a handler's alias can be run by one handler only. Leave the alias to one of the two.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced, id = "mail.confirm")]
//! fn confirm(event: &OrderPlaced) {}
//!
//! #[handler(OrderPlaced, aliases("mail.inform"))]
//! fn inform(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced, id = "mail.confirm")]
fn confirm(event: &OrderPlaced) {}

#[handler(OrderPlaced, aliases("mail.confirm"))]
fn inform(event: &OrderPlaced) {}

fn main() {}
