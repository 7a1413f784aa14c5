//! An event is handed over with its emit, so a list that is only lent cannot be emitted. Hand over the list, or clones of
//! its events.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(Clone)] struct OrderPlaced;
//! async fn place_orders(orders: &[OrderPlaced]) -> evented::Result<()> {
//!     evented::emit_all(orders.iter().cloned()).await
//! }
//! ```

use evented::prelude::*;

#[event]
#[derive(Clone)]
struct OrderPlaced;

async fn place_orders(orders: &[OrderPlaced]) -> evented::Result<()> {
    evented::emit_all(orders).await
}

fn main() {}
