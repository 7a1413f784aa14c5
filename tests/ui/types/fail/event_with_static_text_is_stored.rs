//! A worker reads the event from a payload that is gone afterwards, so no field of it can be a `&'static str`. Hold a
//! `String`.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct OrderPlaced {
//!     currency: String,
//! }
//!
//! #[handler(OrderPlaced, background)]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced {
    currency: &'static str,
}

#[handler(OrderPlaced, background)]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
