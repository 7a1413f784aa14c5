//! A connection does not say that a transaction is open on it, and `&mut *tx` is the connection. Pass `&mut tx`.
//!
//! ```
//! # use evented::prelude::*;
//! use evented::sqlx::Transaction;
//! # #[event(transactional)] #[derive(serde::Serialize, serde::Deserialize)] struct PaymentCaptured;
//! async fn place_order(mut tx: Transaction<'_, Sqlite>) -> evented::Result<()> {
//!     emit_in(&mut tx, PaymentCaptured).await?;
//!     tx.commit().await?;
//!     Ok(())
//! }
//! ```

use evented::{prelude::*, sqlx::Transaction};

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

async fn place_order(mut tx: Transaction<'_, Sqlite>) -> evented::Result<()> {
    emit_in(&mut *tx, PaymentCaptured).await?;
    tx.commit().await?;
    Ok(())
}

fn main() {}
