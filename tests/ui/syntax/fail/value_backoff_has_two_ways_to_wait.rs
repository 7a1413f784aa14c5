//! The waits grow from the first one, or are `fixed` and all the same. Keep one of the two.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background(backoff(fixed = "10s")))]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced, background(backoff("1s", fixed = "10s")))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
