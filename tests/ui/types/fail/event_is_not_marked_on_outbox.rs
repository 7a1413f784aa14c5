//! An event for the outbox is declared one, and transactional. Write `#[event(transactional)]` above the type.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(transactional)]
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct OrderShipped;
//!
//! #[handler(OrderShipped, outbox)]
//! async fn inform(event: OrderShipped) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[derive(serde::Serialize, serde::Deserialize)]
struct OrderShipped;

#[handler(OrderShipped, outbox)]
async fn inform(event: OrderShipped) {}

fn main() {}
