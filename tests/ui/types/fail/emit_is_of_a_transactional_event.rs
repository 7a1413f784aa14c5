//! A transactional event exists if, and only if, its transaction commits, and `emit` has none. Use `emit_in`.
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

use evented::prelude::*;

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

async fn place_order() -> evented::Result<()> {
    emit(PaymentCaptured).await
}

fn main() {}
