//! Each handler of an event decides by which field its deliveries are ordered. Write it on the handler's route.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! struct OrderPlaced {
//!     customer_id: u64,
//! }
//!
//! #[handler(OrderPlaced, background(ordered_by = "customer_id"))]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

use evented::prelude::*;

#[event(ordered_by = "customer_id")]
struct OrderPlaced {
    customer_id: u64,
}

fn main() {}
