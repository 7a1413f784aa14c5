//! To write, the transaction's connection is needed alone. Lend it mutably: `&mut tx`.
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

async fn place_order(tx: Transaction<'_, Sqlite>) -> evented::Result<()> {
    emit_in(&tx, PaymentCaptured).await?;
    tx.commit().await?;
    Ok(())
}

fn main() {}
