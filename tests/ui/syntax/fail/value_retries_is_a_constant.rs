//! Attributes are read before constants have values. Write the number itself.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background(retries = 8))]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

mod limits {
    pub const RETRIES: u32 = 8;
}

#[handler(OrderPlaced, background(retries = limits::RETRIES))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
