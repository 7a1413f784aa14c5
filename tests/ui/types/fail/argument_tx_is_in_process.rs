//! `emit` has no transaction that a handler could join. Take the pool as a `State` and begin one.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! use evented::sqlx::{self, SqlitePool};
//!
//! #[handler(OrderPlaced)]
//! async fn count(event: &OrderPlaced, pool: State<SqlitePool>) -> Result<(), sqlx::Error> {
//!     let tx = evented::begin(&pool).await?;
//!     // ..
//!     tx.commit().await
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
async fn count(event: &OrderPlaced, tx: &mut Tx<Sqlite>) {}

fn main() {}
