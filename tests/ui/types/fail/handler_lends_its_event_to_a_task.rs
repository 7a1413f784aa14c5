//! A task of its own may outlive the handler, and with it what the handler borrows. Await the work, or move a copy into
//! the task.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! struct OrderPlaced {
//!     email: String,
//! }
//!
//! async fn send(email: &str) {}
//!
//! #[handler(OrderPlaced)]
//! async fn send_mail(event: &OrderPlaced) {
//!     send(&event.email).await;
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced {
    email: String,
}

async fn send(email: &str) {}

#[handler(OrderPlaced)]
async fn send_mail(event: &OrderPlaced) {
    tokio::spawn(send(&event.email));
}

fn main() {}
