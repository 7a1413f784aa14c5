//! A test is there only where tests are compiled, and takes no arguments. Write one beside the handler, which calls it.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced)]
//! async fn send_mail(event: &OrderPlaced) {}
//!
//! #[tokio::test]
//! async fn a_mail_is_sent() {
//!     send_mail(&OrderPlaced).await;
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[tokio::test]
#[handler(OrderPlaced)]
async fn send_mail(event: &OrderPlaced) {}

fn main() {}
