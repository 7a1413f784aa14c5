//! There is no unit above a day. Write one number and one of `ms`, `s`, `m`, `h`, `d`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background(backoff("1s", max = "14d")))]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced, background(backoff("1s", max = "2w")))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
