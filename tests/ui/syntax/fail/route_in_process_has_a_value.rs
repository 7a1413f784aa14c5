//! `in_process` is the route where it stands, and also where no route does. Write it without a value.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced, in_process)]
//! async fn send_mail(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced, in_process = true)]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
