//! `unique` says which deliveries there are, and not how they are run. Move the option out.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced { order_id: u64 }
//! #[handler(OrderPlaced, background(unique(key = "order_id", within = "10m"), retries = 8))]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced {
    order_id: u64,
    customer_id: u64,
}

#[handler(OrderPlaced, background(unique(key = "order_id", within = "10m", retries = 8)))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
