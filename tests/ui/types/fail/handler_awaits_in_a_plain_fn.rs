//! Only an `async fn` can wait. Write `async` before `fn`.
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

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[event]
struct MailSent;

#[handler(OrderPlaced)]
fn send_mail(event: &OrderPlaced) -> evented::Result<()> {
    emit(MailSent).await
}

fn main() {}
