//! A handler comes back, to say whether it succeeded. Return `()`, or a `Result` with the error.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced)]
//! fn audit(event: &OrderPlaced) -> Result<(), String> {
//!     Err("the audit log is full".to_owned())
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
fn audit(event: &OrderPlaced) -> ! {
    panic!("the audit log is full")
}

fn main() {}
