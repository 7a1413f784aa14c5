//! `()` is no error: the log and the dead letter would not say why the handler failed. Return a text, or an error.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced)]
//! async fn send_mail(event: &OrderPlaced) -> Result<(), String> {
//!     Err("the mail server is away".to_owned())
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
async fn send_mail(event: &OrderPlaced) -> Result<(), ()> {
    Err(())
}

fn main() {}
