//! The events are emitted when this is awaited, and not before. Add `.await`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! async fn place_order() -> evented::Result<()> {
//!     evented::emit_all([OrderPlaced, OrderPlaced]).await?;
//!     Ok(())
//! }
//! ```

#![deny(unused_must_use)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

async fn place_order() -> evented::Result<()> {
    evented::emit_all([OrderPlaced, OrderPlaced]);
    Ok(())
}

fn main() {}
