//! An event has one id, and a type with a const parameter stands for many types. Make the number a field, or use a type
//! that does not need it.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! struct OrdersPlaced {
//!     order_ids: Vec<u64>,
//! }
//! ```

use evented::prelude::*;

#[event]
struct OrdersPlaced<const N: usize> {
    order_ids: [u64; N],
}

fn main() {}
