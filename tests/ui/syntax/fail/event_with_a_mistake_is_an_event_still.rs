//! A mistake in an event is reported once, where it is: the handlers of that event and the calls that emit it are no
//! mistakes of their own. Correct the one that is reported.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! #[derive(Clone)]
//! struct OrderPlaced;
//!
//! #[handler(OrderPlaced)]
//! fn count(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event(colour = "red")]
#[derive(Clone)]
struct OrderPlaced;

#[handler(OrderPlaced)]
fn count(event: OrderPlaced) {}

async fn place() -> evented::Result<()> {
    emit(OrderPlaced).await
}

fn main() {}
