//! A state is found by its type. Write which: `State<Mailer>`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! # struct Mailer;
//! #[handler(OrderPlaced)]
//! async fn send_mail(event: &OrderPlaced, mailer: State<Mailer>) {}
//! ```

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
async fn send_mail(event: &OrderPlaced, mailer: State) {}

fn main() {}
