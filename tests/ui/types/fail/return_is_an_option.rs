//! `None` does not say whether the handler failed, nor why. Return a `Result<(), E>`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced)]
//! async fn send_mail(event: &OrderPlaced) -> Result<(), std::io::Error> {
//!     Ok(())
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
async fn send_mail(event: &OrderPlaced) -> Option<()> {
    Some(())
}

fn main() {}
