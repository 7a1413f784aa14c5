//! A pool is given to `run()` like any other shared value, with `.state(pool)`. Take it as `State<SqlitePool>`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! use evented::sqlx::SqlitePool;
//!
//! #[handler(OrderPlaced)]
//! async fn count(event: &OrderPlaced, pool: State<SqlitePool>) {}
//! ```

#![allow(unused)]

use evented::{prelude::*, sqlx::SqlitePool};

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
async fn count(event: &OrderPlaced, pool: SqlitePool) {}

fn main() {}
