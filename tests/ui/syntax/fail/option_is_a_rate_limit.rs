//! No option says how many deliveries may run in a time. `concurrency` says how many run at once, and is often what is
//! meant.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background(concurrency = 10))]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced, background(rate_limit = 10))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
