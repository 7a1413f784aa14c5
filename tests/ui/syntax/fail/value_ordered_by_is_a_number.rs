//! Deliveries wait for each other by the value of one field. Write its name, in quotes.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced { order_id: u64 }
//! #[handler(OrderPlaced, background(ordered_by = "order_id"))]
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

#[handler(OrderPlaced, background(ordered_by = 1))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
