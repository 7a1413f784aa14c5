//! What the outbox holds is known by the event's id, so the type must be an event. Write `#[event(transactional)]`
//! above it.
//!
//! ```
//! # use evented::prelude::*;
//! #[event(transactional)]
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct PaymentCaptured;
//!
//! async fn place_order(tx: &mut Tx<Sqlite>) -> evented::Result<()> {
//!     emit_in(tx, PaymentCaptured).await
//! }
//! ```

use evented::prelude::*;

#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

async fn place_order(tx: &mut Tx<Sqlite>) -> evented::Result<()> {
    emit_in(tx, PaymentCaptured).await
}

fn main() {}
