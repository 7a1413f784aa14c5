//! Nobody waits for a handler's answer: it has worked or failed. Return nothing, or a `Result` that says why it failed.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced)]
//! fn send_mail(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
fn send_mail(event: &OrderPlaced) -> bool {
    true
}

fn main() {}
