//! A handler of which none may run would never be done. Write at least 1.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background(concurrency = 1))]
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

#[handler(OrderPlaced, background(concurrency = 0))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
