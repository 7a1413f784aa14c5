//! A number alone may be seconds or milliseconds. Write the duration in quotes, with its unit.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced { order_id: u64 }
//! #[handler(OrderPlaced, background(unique(key = "order_id", within = "600s")))]
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

#[handler(OrderPlaced, background(unique(key = "order_id", within = 600)))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
