//! There are three routes: `in_process`, which is the default, `background` and `outbox`. Take one of them.
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

#[handler(OrderPlaced, eventually)]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
