//! An earlier version is a type, which the compiler must find. Leave out the quotes.
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

struct OrderPlacedV1;

#[event(version = 2, from("OrderPlacedV1"))]
struct OrderPlaced;

fn main() {}
