//! Only the id that a handler has by default is made of two parts, `<event id>/<function name>`. One that is given is
//! one name.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced, id = "mail.confirm")]
//! fn confirm(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced, id = "mail/confirm")]
fn confirm(event: &OrderPlaced) {}

fn main() {}
