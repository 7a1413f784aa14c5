//! `?` hands an error to the caller, so the function must return one. Return a `Result<(), E>`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! # #[event] struct MailSent;
//! #[handler(OrderPlaced)]
//! async fn send_mail(event: &OrderPlaced) -> evented::Result<()> {
//!     emit(MailSent).await?;
//!     Ok(())
//! }
//! ```

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[event]
struct MailSent;

#[handler(OrderPlaced)]
async fn send_mail(event: &OrderPlaced) {
    emit(MailSent).await?;
}

fn main() {}
