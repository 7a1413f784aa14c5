//! The event and the route are two entries of a list. Write a comma between them.
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

#[handler(OrderPlaced => background)]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
