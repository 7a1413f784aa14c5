//! A stored payload of an earlier version becomes the event through `From`. Write that conversion.
//!
//! ```
//! # use evented::prelude::*;
//! #[derive(serde::Deserialize)]
//! struct OrderPlacedV1 {
//!     order_id: u32,
//! }
//!
//! #[event(version = 2, from(OrderPlacedV1))]
//! struct OrderPlaced {
//!     order_id: u64,
//! }
//!
//! impl From<OrderPlacedV1> for OrderPlaced {
//!     fn from(earlier: OrderPlacedV1) -> Self {
//!         Self { order_id: earlier.order_id.into() }
//!     }
//! }
//! ```

use evented::prelude::*;

#[derive(serde::Deserialize)]
struct OrderPlacedV1;

#[event(version = 2, from(OrderPlacedV1))]
struct OrderPlaced;

fn main() {}
