//! A worker finds the type that a stored payload has by what its attribute registers. Write `#[event]` above the type.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct OrderShipped;
//!
//! #[handler(OrderShipped, background)]
//! async fn inform(event: OrderShipped) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[derive(serde::Serialize, serde::Deserialize)]
struct OrderShipped;

#[handler(OrderShipped, background)]
async fn inform(event: OrderShipped) {}

fn main() {}
