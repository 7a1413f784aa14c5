//! `run()` refuses to start where a state is missing, so a handler never finds one absent. Take it, and put the choice
//! in its type.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! # struct Mailer;
//! struct Mail(Option<Mailer>);
//!
//! #[handler(OrderPlaced)]
//! async fn send_mail(event: &OrderPlaced, mail: State<Mail>) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

struct Mailer;

#[handler(OrderPlaced)]
async fn send_mail(event: &OrderPlaced, mailer: Option<State<Mailer>>) {}

fn main() {}
