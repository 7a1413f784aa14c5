//! An event has one id, under which it is stored and found, and a generic type stands for many types. Declare one event
//! for each of them.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! struct OrderImported {
//!     row: String,
//! }
//! ```

use evented::prelude::*;

#[event]
struct OrderImported<T> {
    row: T,
}

fn main() {}
