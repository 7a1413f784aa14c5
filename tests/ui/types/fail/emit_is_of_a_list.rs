//! `emit` takes one event. Pass several to `emit_all`, which stores them in one write.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! async fn place_order(orders: Vec<OrderPlaced>) -> evented::Result<()> {
//!     evented::emit_all(orders).await
//! }
//! ```

use evented::prelude::*;

#[event]
struct OrderPlaced;

async fn place_order(orders: Vec<OrderPlaced>) -> evented::Result<()> {
    emit(orders).await
}

fn main() {}
