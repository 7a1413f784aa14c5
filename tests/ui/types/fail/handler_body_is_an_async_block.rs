//! A plain `fn` returns the block and nobody awaits it. Write `async fn`, and the block's body as the function's.
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
fn send_mail(event: &OrderPlaced) {
    async { emit(MailSent).await }
}

fn main() {}
