//! The event comes first, then the route, which has only options of its own in its list. Move the event to the front.
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

#[handler(background(OrderPlaced))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
