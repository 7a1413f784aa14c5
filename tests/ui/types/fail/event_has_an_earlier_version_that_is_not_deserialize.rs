//! Payloads of an earlier version are read into its type first. Derive `Deserialize` for that type.
//!
//! ```
//! # use evented::prelude::*;
//! #[derive(serde::Deserialize)]
//! struct OrderPlacedV1;
//!
//! #[event(version = 2, from(OrderPlacedV1))]
//! struct OrderPlaced;
//! #
//! # impl From<OrderPlacedV1> for OrderPlaced { fn from(_: OrderPlacedV1) -> Self { Self } }
//! ```

use evented::prelude::*;

struct OrderPlacedV1;

#[event(version = 2, from(OrderPlacedV1))]
struct OrderPlaced;

impl From<OrderPlacedV1> for OrderPlaced {
    fn from(_: OrderPlacedV1) -> Self {
        Self
    }
}

fn main() {}
