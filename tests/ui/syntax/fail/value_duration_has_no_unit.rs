//! A number alone may be seconds or milliseconds, and the difference is a factor of a thousand. Add the unit.
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

#[handler(OrderPlaced, background(timeout = "30"))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
