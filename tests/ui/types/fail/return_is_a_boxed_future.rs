//! evented boxes and awaits the future itself. Write an `async fn`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced)]
//! async fn send_mail(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use std::pin::Pin;

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
fn send_mail(event: &OrderPlaced) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async {})
}

fn main() {}
