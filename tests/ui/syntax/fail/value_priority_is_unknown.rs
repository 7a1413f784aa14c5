//! Of a queue's deliveries some come before the rest and some after it, and nothing is more urgent than the first. Write one
//! of the three words.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background(priority = "high"))]
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

#[handler(OrderPlaced, background(priority = "urgent"))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
