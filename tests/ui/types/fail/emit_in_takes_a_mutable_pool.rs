//! A pool is no transaction, however it is borrowed. Begin one, and commit it.
//!
//! ```
//! # use evented::prelude::*;
//! use evented::sqlx::SqlitePool;
//! # #[event(transactional)] #[derive(serde::Serialize, serde::Deserialize)] struct PaymentCaptured;
//! async fn place_order(pool: &SqlitePool) -> evented::Result<()> {
//!     let mut tx = evented::begin(pool).await?;
//!     emit_in(&mut tx, PaymentCaptured).await?;
//!     tx.commit().await?;
//!     Ok(())
//! }
//! ```

use evented::{prelude::*, sqlx::SqlitePool};

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

async fn place_order(mut pool: SqlitePool) -> evented::Result<()> {
    emit_in(&mut pool, PaymentCaptured).await
}

fn main() {}
