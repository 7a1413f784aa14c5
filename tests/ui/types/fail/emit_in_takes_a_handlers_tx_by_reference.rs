//! A handler's `tx` is a reference already. Pass it as it is: `tx`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event(transactional)] #[derive(serde::Serialize, serde::Deserialize)] struct PaymentCaptured;
//! # #[event(transactional)] #[derive(serde::Serialize, serde::Deserialize)] struct PaymentBooked;
//! #[handler(PaymentCaptured, outbox)]
//! async fn book(event: PaymentCaptured, tx: &mut Tx<Sqlite>) -> evented::Result<()> {
//!     emit_in(tx, PaymentBooked).await
//! }
//! ```

use evented::prelude::*;

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentBooked;

#[handler(PaymentCaptured, outbox)]
async fn book(event: PaymentCaptured, tx: &mut Tx<Sqlite>) -> evented::Result<()> {
    emit_in(&mut tx, PaymentBooked).await
}

fn main() {}
