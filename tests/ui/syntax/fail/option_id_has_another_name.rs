//! What stores, logs and the catalogue call a handler is its `id`. Write that.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background, id = "mail.confirm")]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced, background, name = "mail.confirm")]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
