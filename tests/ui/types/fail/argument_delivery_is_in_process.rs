//! A `Delivery` tells of attempts, and an in-process handler has one only. Have a worker run the handler, or leave the
//! argument out.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background)]
//! async fn send_mail(event: OrderPlaced, delivery: Delivery) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced)]
async fn send_mail(event: &OrderPlaced, delivery: Delivery) {}

fn main() {}
