//! Stores remember deliveries for 7 days, so they know no earlier one. Write `"7d"` or less.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced { order_id: u64 }
//! #[handler(OrderPlaced, background(unique(key = "order_id", within = "7d")))]
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

#[handler(OrderPlaced, background(unique(key = "order_id", within = "8d")))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
