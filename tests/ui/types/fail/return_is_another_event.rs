//! A returned event would reach nobody. Emit it.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! # #[event] struct MailSent;
//! #[handler(OrderPlaced)]
//! async fn send_mail(event: &OrderPlaced) -> evented::Result<()> {
//!     emit(MailSent).await
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[event]
struct MailSent;

#[handler(OrderPlaced)]
async fn send_mail(event: &OrderPlaced) -> MailSent {
    MailSent
}

fn main() {}
