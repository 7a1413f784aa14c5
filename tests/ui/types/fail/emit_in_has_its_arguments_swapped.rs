//! The transaction comes first, then the event. To rustc, each of the two is a mistake.
//!
//! ```
//! # use evented::prelude::*;
//! use evented::sqlx::SqlitePool;
//! # #[event(transactional)] #[derive(serde::Serialize, serde::Deserialize)] struct PaymentCaptured;
//! async fn capture(pool: &SqlitePool) -> evented::Result<()> {
//!     let mut tx = begin(pool).await?;
//!     emit_in(&mut tx, PaymentCaptured).await?;
//!     tx.commit().await?;
//!     Ok(())
//! }
//! ```

use evented::prelude::*;

use evented::sqlx::SqlitePool;

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

async fn capture(pool: &SqlitePool) -> evented::Result<()> {
    let mut tx = begin(pool).await?;
    emit_in(PaymentCaptured, &mut tx).await?;
    tx.commit().await?;
    Ok(())
}

fn main() {}
