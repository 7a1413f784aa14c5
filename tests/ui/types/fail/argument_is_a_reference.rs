//! What handlers share is not borrowed but taken as a `State<..>`, which derefs to it. Write that instead of `&`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! # struct Mailer;
//! #[handler(OrderPlaced)]
//! async fn send_mail(event: &OrderPlaced, mailer: State<Mailer>) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

struct Mailer;

#[handler(OrderPlaced)]
async fn send_mail(event: &OrderPlaced, mailer: &Mailer) {}

fn main() {}
