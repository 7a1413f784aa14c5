//! Deliveries wait for each other by the value of one field. Give the event a field that holds both values.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced { order: String }
//! #[handler(OrderPlaced, background(ordered_by = "order"))]
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

#[handler(OrderPlaced, background(ordered_by = "order_id, customer_id"))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
