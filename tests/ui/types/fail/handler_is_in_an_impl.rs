//! A handler is registered where it stands, and nothing can be registered inside an `impl`. Move the function out of
//! it.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced)]
//! async fn send_mail(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

struct Mailer;

impl Mailer {
    #[handler(OrderPlaced)]
    async fn send_mail(event: &OrderPlaced) {}
}

fn main() {}
