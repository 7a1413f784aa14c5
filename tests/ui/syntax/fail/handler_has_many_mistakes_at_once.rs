//! All mistakes of an attribute and of the function below it are reported in one run, each at its place. Correct them
//! in any order.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background(retries = 5, timeout = "30s", queue = "mail"), id = "mail.confirm")]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced, background(retires = 5, timeout = "30", queue = 1), id = "mail confirm")]
const unsafe fn send_mail<T>(event: &OrderPlaced, mailer: &impl Clone) {}

fn main() {}
