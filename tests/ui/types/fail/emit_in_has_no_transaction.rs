//! The event is written in a transaction, which the call names. Pass it first.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event(transactional)] #[derive(serde::Serialize, serde::Deserialize)] struct PaymentCaptured;
//! async fn place_order(tx: &mut Tx<Sqlite>) -> evented::Result<()> {
//!     emit_in(tx, PaymentCaptured).await
//! }
//! ```

use evented::prelude::*;

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

async fn place_order(tx: &mut Tx<Sqlite>) -> evented::Result<()> {
    emit_in(PaymentCaptured).await
}

fn main() {}
