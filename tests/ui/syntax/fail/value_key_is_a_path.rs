//! A store looks at the event's own fields, and not into them. Give the event a field that holds the value.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced { customer_id: u64 }
//! #[handler(OrderPlaced, background(unique(key = "customer_id", within = "10m")))]
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

#[handler(OrderPlaced, background(unique(key = "customer.id", within = "10m")))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
