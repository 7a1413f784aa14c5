//! After an `.await` a handler may go on in another thread, and an `Rc` belongs to one. Use an `Arc`, or drop it
//! before.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! # #[event] struct MailSent;
//! use std::sync::Arc;
//!
//! #[handler(OrderPlaced)]
//! async fn send_mail(event: &OrderPlaced) -> evented::Result<()> {
//!     let text = Arc::new(String::new());
//!     emit(MailSent).await?;
//!     drop(text);
//!     Ok(())
//! }
//! ```

#![allow(unused)]

use std::rc::Rc;

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[event]
struct MailSent;

#[handler(OrderPlaced)]
async fn send_mail(event: &OrderPlaced) -> evented::Result<()> {
    let text = Rc::new(String::new());
    emit(MailSent).await?;
    drop(text);
    Ok(())
}

fn main() {}
