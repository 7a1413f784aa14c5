//! The event has no field of that name. Name one that it has, or give it the field.
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

#[handler(OrderPlaced, background(ordered_by = "shop"))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
