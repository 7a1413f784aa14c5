//! Handlers are found by the event's type, so it must be one. Write `#[event]` above the type.
//!
//! ```
//! # use evented::prelude::*;
//! #[event]
//! struct OrderPlaced;
//!
//! async fn place_order() -> evented::Result<()> {
//!     emit(OrderPlaced).await
//! }
//! ```

use evented::prelude::*;

struct OrderPlaced;

async fn place_order() -> evented::Result<()> {
    emit(OrderPlaced).await
}

fn main() {}
