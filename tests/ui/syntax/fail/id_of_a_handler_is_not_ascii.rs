//! A handler without an `id` has its function's name in its id, and ids are ASCII: other letters have more than one
//! spelling. Give it an `id`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced, id = "check")]
//! fn prüfen(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
fn prüfen(event: &OrderPlaced) {}

fn main() {}
