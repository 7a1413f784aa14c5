//! An event for a `background` or `outbox` handler is stored until a worker reads it. Derive serde's traits for it.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct OrderPlaced;
//!
//! #[handler(OrderPlaced, background)]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced, background)]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
