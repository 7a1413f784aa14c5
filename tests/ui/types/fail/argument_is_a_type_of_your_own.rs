//! evented does not know where to get the value. Give it to `run()` with `.state(..)`, and take it as `State<..>`.
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
async fn send_mail(event: &OrderPlaced, mailer: Mailer) {}

fn main() {}
