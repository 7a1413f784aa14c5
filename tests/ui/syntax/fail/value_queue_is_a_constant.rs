//! Attributes are read before constants have values. Write the name itself.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced, background(queue = "mail"))]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

mod queues {
    pub const MAIL: &str = "mail";
}

#[handler(OrderPlaced, background(queue = queues::MAIL))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
