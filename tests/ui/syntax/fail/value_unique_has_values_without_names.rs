//! Of two texts in a row nobody could tell which is which. Write their names.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced { order_id: u64 }
//! #[handler(OrderPlaced, background(unique(key = "order_id", within = "10m")))]
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

#[handler(OrderPlaced, background(unique("order_id", "10m")))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
