//! A handler does not start the program: evented calls it, in the runtime that `run()` was awaited in. `#[tokio::main]`
//! belongs to `main` alone.
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

#[tokio::main(flavor = "current_thread")]
#[handler(OrderPlaced)]
async fn send_mail(event: &OrderPlaced) {}

fn main() {}
