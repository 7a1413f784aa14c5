//! A handler without a route runs inside `emit`, and waits in no queue. Give it a route with a worker.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background(priority = "high"))]
//! async fn send_mail(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced {
    order_id: u64,
    customer_id: u64,
}

#[handler(OrderPlaced, priority = "high")]
async fn send_mail(event: &OrderPlaced) {}

fn main() {}
