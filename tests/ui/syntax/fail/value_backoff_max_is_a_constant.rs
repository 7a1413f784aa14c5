//! Attributes are read before constants have values. Write the duration itself.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background(backoff("1s", max = "1h")))]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

const LONGEST: &str = "1h";

#[handler(OrderPlaced, background(backoff("1s", max = LONGEST)))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
