//! Handlers on many threads look at one event at the same time, and a `Cell` must not be looked at so. Hold plain data,
//! or an atomic.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! struct OrderPlaced {
//!     amount_cents: u64,
//! }
//! ```

use evented::prelude::*;

#[event]
struct OrderPlaced {
    amount_cents: std::cell::Cell<u64>,
}

fn main() {}
