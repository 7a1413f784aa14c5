//! A worker hands the function the event that the attribute names. Name the same type in both places.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background)]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[event]
struct OrderShipped;

#[handler(OrderPlaced, background)]
async fn send_mail(event: OrderShipped) {}

fn main() {}
