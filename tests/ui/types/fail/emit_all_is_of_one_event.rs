//! `emit_all` takes a list of events. Pass one event to `emit`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! async fn place_order() -> evented::Result<()> {
//!     emit(OrderPlaced).await
//! }
//! ```

use evented::prelude::*;

#[event]
struct OrderPlaced;

async fn place_order() -> evented::Result<()> {
    evented::emit_all(OrderPlaced).await
}

fn main() {}
