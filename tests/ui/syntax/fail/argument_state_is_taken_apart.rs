//! A `State` is shared, so there is nothing to take out of it. Give it a name: it derefs to the value.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! # struct Mailer;
//! # impl Mailer { async fn send(&self) {} }
//! #[handler(OrderPlaced)]
//! async fn send_mail(event: &OrderPlaced, mailer: State<Mailer>) {
//!     mailer.send().await;
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

struct Mailer;

impl Mailer {
    async fn send(&self) {}
}

#[handler(OrderPlaced)]
async fn send_mail(event: &OrderPlaced, State(mailer): State<Mailer>) {
    mailer.send().await;
}

fn main() {}
