//! A handler is registered where it stands, and nothing can be registered inside an `impl`. Mark a free function that
//! calls the trait's.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! # trait Metrics { fn count(event: &OrderPlaced); }
//! # struct Local;
//! impl Metrics for Local {
//!     fn count(event: &OrderPlaced) {}
//! }
//!
//! #[handler(OrderPlaced)]
//! fn count(event: &OrderPlaced) {
//!     Local::count(event);
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

trait Metrics {
    fn count(event: &OrderPlaced);
}

struct Local;

impl Metrics for Local {
    #[handler(OrderPlaced)]
    fn count(event: &OrderPlaced) {}
}

fn main() {}
