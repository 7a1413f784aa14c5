//! A handler without a route runs inside `emit`, once: there is nobody to run it again. Give it a route with a worker.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background(retries = 8))]
//! async fn send_mail(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced, retries = 8)]
async fn send_mail(event: &OrderPlaced) {}

fn main() {}
