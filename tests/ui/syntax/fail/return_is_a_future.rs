//! A handler that awaits is an `async fn`; of a plain `fn` the future would be dropped. Write `async fn`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced)]
//! async fn count(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
fn count(event: &OrderPlaced) -> impl Future<Output = ()> {
    async {}
}

fn main() {}
