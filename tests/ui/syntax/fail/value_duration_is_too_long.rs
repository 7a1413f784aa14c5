//! A handler that hangs is noticed at its timeout, so that ends after seven days at the latest. Write less.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background(timeout = "7d"))]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced, background(timeout = "8d"))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
