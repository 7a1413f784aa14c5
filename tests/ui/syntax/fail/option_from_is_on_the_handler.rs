//! How an earlier version becomes the event is the same for all of its handlers. Write it where the event is declared.
//!
//! ```
//! # use evented::prelude::*;
//! # #[derive(serde::Deserialize)] struct OrderPlacedV1;
//! # impl From<OrderPlacedV1> for OrderPlaced { fn from(_: OrderPlacedV1) -> Self { Self } }
//! #[event(version = 2, from(OrderPlacedV1))]
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! struct OrderPlaced;
//!
//! #[handler(OrderPlaced)]
//! fn count(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

struct OrderPlacedV1;

#[handler(OrderPlaced, from(OrderPlacedV1))]
fn count(event: &OrderPlaced) {}

fn main() {}
