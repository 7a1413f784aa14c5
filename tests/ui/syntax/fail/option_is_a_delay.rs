//! When a delivery is due is said by who emits the event, since it may differ from one event to the next.
//!
//! ```
//! # use evented::prelude::*;
//! use std::time::Duration;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background)]
//! async fn send_mail(event: OrderPlaced) {}
//!
//! async fn place_order() -> evented::Result<()> {
//!     emit(OrderPlaced).after(Duration::from_secs(300)).await
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced, background(delay = "5m"))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
