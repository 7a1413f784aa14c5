//! Queries run on the connection, which is behind the `Tx`, and the `Tx` behind a reference: take both away with `&mut
//! **tx`. rustc says it three times, once for each part of the call.
//!
//! ```
//! # use evented::prelude::*;
//! use evented::sqlx;
//! # #[event(transactional)] #[derive(serde::Serialize, serde::Deserialize)] struct PaymentCaptured;
//! #[handler(PaymentCaptured, outbox)]
//! async fn book(event: PaymentCaptured, tx: &mut Tx<Sqlite>) -> Result<(), sqlx::Error> {
//!     sqlx::query("update orders set paid = 1").execute(&mut **tx).await?;
//!     Ok(())
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

use evented::sqlx;

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

#[handler(PaymentCaptured, outbox)]
async fn book(event: PaymentCaptured, tx: &mut Tx<Sqlite>) -> Result<(), sqlx::Error> {
    sqlx::query("update orders set paid = 1").execute(&mut *tx).await?;
    Ok(())
}

fn main() {}
