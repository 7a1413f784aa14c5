//! A stored event has values by the names of its fields, and these have no names. Give them some.
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
struct OrderPlaced(u64, u64);

#[handler(OrderPlaced, background(unique(key = "0", within = "10m")))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
