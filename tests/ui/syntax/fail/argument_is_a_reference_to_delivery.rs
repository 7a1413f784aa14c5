//! Each attempt has a `Delivery` of its own, which the handler gets whole. Take it by value.
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

#[handler(OrderPlaced, background)]
async fn send_mail(event: OrderPlaced, delivery: &Delivery) {}

fn main() {}
