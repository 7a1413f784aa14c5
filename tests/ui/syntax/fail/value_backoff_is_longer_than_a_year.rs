//! A wait of more than a year is a slip of the pen, and stores add waits to their clocks. Write less.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background(backoff(fixed = "365d")))]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced, background(backoff(fixed = "400d")))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
