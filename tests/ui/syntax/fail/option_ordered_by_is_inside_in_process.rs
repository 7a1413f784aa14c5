//! A handler in process runs inside `emit`, in the order of the calls. Give it a route with a worker.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced { customer_id: u64 }
//! #[handler(OrderPlaced, background(ordered_by = "customer_id"))]
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

#[handler(OrderPlaced, in_process(ordered_by = "customer_id"))]
async fn send_mail(event: &OrderPlaced) {}

fn main() {}
