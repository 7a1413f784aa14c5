//! Attributes are read before constants have values. Write the duration itself.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background(timeout = "30s"))]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

const TIMEOUT: &str = "30s";

#[handler(OrderPlaced, background(timeout = TIMEOUT))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
