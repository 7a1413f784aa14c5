//! The event does not know where its handlers run: each of them has a route of its own. Write the route on the handler.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! struct OrderPlaced;
//!
//! #[handler(OrderPlaced, background)]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

use evented::prelude::*;

#[event(background)]
struct OrderPlaced;

fn main() {}
