//! A unit has one spelling, so that one duration looks the same everywhere. Write one number and one of `ms`, `s`, `m`,
//! `h`, `d`.
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

#[handler(OrderPlaced, background(timeout = "30 sec"))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
