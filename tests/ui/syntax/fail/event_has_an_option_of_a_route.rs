//! How often a delivery is tried again is up to the handler that failed. Write `retries` on its route.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! struct OrderPlaced;
//!
//! #[handler(OrderPlaced, background(retries = 8))]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

use evented::prelude::*;

#[event(retries = 8)]
struct OrderPlaced;

fn main() {}
