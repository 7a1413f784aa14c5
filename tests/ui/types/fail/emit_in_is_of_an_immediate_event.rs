//! Handlers of this event run inside `emit` or are stored by it, whatever becomes of a transaction. Emit it after the
//! commit, or declare it transactional.
//!
//! ```
//! # use evented::prelude::*;
//! use evented::sqlx::Transaction;
//! # #[event] struct OrderPlaced;
//! async fn place_order(tx: Transaction<'_, Sqlite>) -> evented::Result<()> {
//!     tx.commit().await?;
//!     emit(OrderPlaced).await
//! }
//! ```

use evented::{prelude::*, sqlx::Transaction};

#[event]
struct OrderPlaced;

async fn place_order(mut tx: Transaction<'_, Sqlite>) -> evented::Result<()> {
    emit_in(&mut tx, OrderPlaced).await?;
    tx.commit().await?;
    Ok(())
}

fn main() {}
