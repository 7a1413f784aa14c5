//! `from()` names no earlier version. Name them, the oldest first, or leave it out.
//!
//! ```
//! # use evented::prelude::*;
//! # #[derive(serde::Deserialize)] struct OrderPlacedV1;
//! # impl From<OrderPlacedV1> for OrderPlaced { fn from(_: OrderPlacedV1) -> Self { Self } }
//! #[event(version = 2, from(OrderPlacedV1))]
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

#[event(version = 2, from())]
struct OrderPlaced;

fn main() {}
