//! An `enum` has no field that is there whatever it holds. Make the event a `struct`, of the field and the `enum`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! enum Place {
//!     Online,
//!     InShop,
//! }
//!
//! #[event]
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! struct OrderPlaced {
//!     order_id: u64,
//!     place: Place,
//! }
//!
//! #[handler(OrderPlaced, background(ordered_by = "order_id"))]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
enum OrderPlaced {
    Online { order_id: u64 },
    InShop,
}

#[handler(OrderPlaced, background(ordered_by = "order_id"))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
