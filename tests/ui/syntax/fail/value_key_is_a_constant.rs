//! An attribute is read before the compiler knows what a constant holds. Write the field's name itself.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced { order_id: u64 }
//! #[handler(OrderPlaced, background(unique(key = "order_id", within = "10m")))]
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

const KEY: &str = "order_id";

#[handler(OrderPlaced, background(unique(key = KEY, within = "10m")))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
