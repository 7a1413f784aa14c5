//! With an order, the delivery that was stored first is next, whatever a priority would say. Keep the one that matters.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced { customer_id: u64 }
//! #[handler(OrderPlaced, background(ordered_by = "customer_id"))]
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

#[handler(OrderPlaced, background(priority = "high", ordered_by = "customer_id"))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
