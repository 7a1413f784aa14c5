//! An emit takes the event itself, which handlers may keep. Pass it by value, and clone it before if you still need it.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! async fn place_order(order: OrderPlaced) -> evented::Result<()> {
//!     emit(order).await
//! }
//! ```

use evented::prelude::*;

#[event]
struct OrderPlaced;

async fn place_order(order: OrderPlaced) -> evented::Result<()> {
    emit(&order).await
}

fn main() {}
