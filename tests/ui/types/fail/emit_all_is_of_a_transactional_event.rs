//! A transactional event exists if, and only if, its transaction commits, and `emit_all` has none. Use `emit_in` for
//! each.
//!
//! ```
//! # use evented::prelude::*;
//! use evented::sqlx::SqlitePool;
//! # #[event(transactional)] #[derive(serde::Serialize, serde::Deserialize)] struct PaymentCaptured;
//! async fn place_order(pool: &SqlitePool, payments: Vec<PaymentCaptured>) -> evented::Result<()> {
//!     let mut tx = evented::begin(pool).await?;
//!     for payment in payments {
//!         emit_in(&mut tx, payment).await?;
//!     }
//!     tx.commit().await?;
//!     Ok(())
//! }
//! ```

use evented::prelude::*;

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

async fn place_order(payments: Vec<PaymentCaptured>) -> evented::Result<()> {
    evented::emit_all(payments).await
}

fn main() {}
