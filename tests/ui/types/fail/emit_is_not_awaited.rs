//! An emit happens when it is awaited, and not before. Add `.await`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! async fn place_order() -> evented::Result<()> {
//!     emit(OrderPlaced).await?;
//!     Ok(())
//! }
//! ```

#![deny(unused_must_use)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

async fn place_order() -> evented::Result<()> {
    emit(OrderPlaced);
    Ok(())
}

fn main() {}
