//! A handler is of a type, and a variant is none. Take the enum, and match in the function.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! enum OrderChanged {
//!     Placed,
//!     Cancelled,
//! }
//!
//! #[handler(OrderChanged)]
//! fn count(event: &OrderChanged) {
//!     if let OrderChanged::Placed = event { /* .. */ }
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
enum OrderChanged {
    Placed,
    Cancelled,
}

#[handler(OrderChanged::Placed)]
fn count(event: &OrderChanged) {}

fn main() {}
