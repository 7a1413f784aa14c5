//! Other libraries have other words. The field whose value deliveries share that run one after the other is
//! `ordered_by` here.
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
    customer_id: u64,
}

#[handler(OrderPlaced, background(partition_key = "customer_id"))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
