//! A handler is one function, and a module may hold many. Mark each of them.
//!
//! ```
//! # use evented::prelude::*;
//! mod metrics {
//!     use evented::prelude::*;
//!
//!     # #[event] pub struct OrderPlaced;
//!     #[handler(OrderPlaced)]
//!     fn count(event: &OrderPlaced) {}
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
mod metrics {
    fn count(event: &super::OrderPlaced) {}
}

fn main() {}
