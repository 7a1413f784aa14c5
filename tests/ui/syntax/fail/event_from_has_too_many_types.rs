//! Version 2 has one version before it, so `from(..)` names one type at most. Raise the version, or name fewer types.
//!
//! ```
//! # use evented::prelude::*;
//! # #[derive(serde::Deserialize)] struct OrderPlacedV1;
//! # impl From<OrderPlacedV1> for OrderPlaced { fn from(_: OrderPlacedV1) -> Self { Self } }
//! # #[derive(serde::Deserialize)] struct OrderPlacedV2;
//! # impl From<OrderPlacedV2> for OrderPlaced { fn from(_: OrderPlacedV2) -> Self { Self } }
//! #[event(version = 3, from(OrderPlacedV1, OrderPlacedV2))]
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! struct OrderPlaced;
//! ```

use evented::prelude::*;

struct OrderPlacedV1;
struct OrderPlacedV2;

#[event(version = 2, from(OrderPlacedV1, OrderPlacedV2))]
struct OrderPlaced;

fn main() {}
