//! An error is logged and kept with its delivery, so it must be one. Implement `std::error::Error` for its type.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! use std::fmt;
//!
//! #[derive(Debug)]
//! struct MailError;
//!
//! impl fmt::Display for MailError {
//!     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
//!         f.write_str("the mail was refused")
//!     }
//! }
//!
//! impl std::error::Error for MailError {}
//!
//! #[handler(OrderPlaced)]
//! async fn send_mail(event: &OrderPlaced) -> Result<(), MailError> {
//!     Ok(())
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

struct MailError;

#[handler(OrderPlaced)]
async fn send_mail(event: &OrderPlaced) -> Result<(), MailError> {
    Err(MailError)
}

fn main() {}
