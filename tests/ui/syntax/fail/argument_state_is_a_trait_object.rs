//! States are found by their types, and a trait object by itself is no type of a known size: put it in a `Box`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! # struct Smtp;
//! trait Mailer: Send + Sync {}
//! # impl Mailer for Smtp {}
//!
//! #[handler(OrderPlaced)]
//! async fn send_mail(event: &OrderPlaced, mailer: State<Box<dyn Mailer>>) {}
//!
//! # async fn start() -> evented::Result<()> {
//! let mailer: Box<dyn Mailer> = Box::new(Smtp);
//! evented::run().state(mailer).await?;
//! # Ok(()) }
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

trait Mailer: Send + Sync {}

#[handler(OrderPlaced)]
async fn send_mail(event: &OrderPlaced, mailer: State<dyn Mailer>) {}

fn main() {}
