//! The result is there when the emit was awaited. Write `.await?`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! async fn place_order() -> evented::Result<()> {
//!     emit(OrderPlaced).await?;
//!     Ok(())
//! }
//! ```

use evented::prelude::*;

#[event]
struct OrderPlaced;

async fn place_order() -> evented::Result<()> {
    emit(OrderPlaced)?.await;
    Ok(())
}

fn main() {}
