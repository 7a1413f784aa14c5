//! An `in_process` handler runs inside `emit`, which waits until it returns. Give it a route with a worker.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background(timeout = "30s"))]
//! async fn send_mail(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced, in_process(timeout = "30s"))]
async fn send_mail(event: &OrderPlaced) {}

fn main() {}
