//! A transactional event exists if, and only if, its transaction commits, and `app.emit` has none. Use `app.emit_in`.
//!
//! ```
//! # use evented::prelude::*;
//! use evented::sqlx::SqlitePool;
//! # #[event(transactional)] #[derive(serde::Serialize, serde::Deserialize)] struct PaymentCaptured;
//! async fn place_order(app: &evented::App, pool: &SqlitePool) -> evented::Result<()> {
//!     let mut tx = evented::begin(pool).await?;
//!     app.emit_in(&mut tx, PaymentCaptured).await?;
//!     tx.commit().await?;
//!     Ok(())
//! }
//! ```

use evented::prelude::*;

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

async fn place_order(app: &evented::App) -> evented::Result<()> {
    app.emit(PaymentCaptured).await
}

fn main() {}
