//! The event is written into the transaction when this is awaited, and not before. Add `.await`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event(transactional)] #[derive(serde::Serialize, serde::Deserialize)] struct PaymentCaptured;
//! async fn place_order(tx: &mut Tx<Sqlite>) -> evented::Result<()> {
//!     emit_in(tx, PaymentCaptured).await?;
//!     Ok(())
//! }
//! ```

#![deny(unused_must_use)]

use evented::prelude::*;

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

async fn place_order(tx: &mut Tx<Sqlite>) -> evented::Result<()> {
    emit_in(tx, PaymentCaptured);
    Ok(())
}

fn main() {}
