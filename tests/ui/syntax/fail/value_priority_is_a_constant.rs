//! An attribute is read before the compiler knows what a constant holds. Write the word itself.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background(priority = "low"))]
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

mod limits {
    pub const REPORTS: &str = "low";
}

#[handler(OrderPlaced, background(priority = limits::REPORTS))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
