//! Other libraries have other words. How many deliveries run at once is `concurrency` here, and an option of the route.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background(concurrency = 4))]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced, background, max_concurrency = 4)]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
