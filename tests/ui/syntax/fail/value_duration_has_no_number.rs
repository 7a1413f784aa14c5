//! A duration begins with a number. Write one number and one of `ms`, `s`, `m`, `h`, `d`.
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

#[handler(OrderPlaced, background(timeout = "soon"))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
