//! A `State<..>` is an `Arc` already. Take the value as `State<..>`, and give it to `run()` with `.state(..)`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! # struct Mailer;
//! #[handler(OrderPlaced)]
//! async fn send_mail(event: &OrderPlaced, mailer: State<Mailer>) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

struct Mailer;

#[handler(OrderPlaced)]
async fn send_mail(event: &OrderPlaced, mailer: std::sync::Arc<Mailer>) {}

fn main() {}
