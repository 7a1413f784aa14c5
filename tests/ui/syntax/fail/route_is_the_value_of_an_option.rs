//! The route is written as a word of its own, since it has options of its own. Leave out what stands before it.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background)]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced, mode = "background")]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
