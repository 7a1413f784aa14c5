//! A task takes a future, and an emit becomes one where it is awaited. Await it in an `async` block.
//!
//! ```
//! # use evented::prelude::*;
//! use tokio::task::JoinSet;
//! # #[event] struct OrderPlaced;
//! async fn place_order(tasks: &mut JoinSet<evented::Result<()>>) -> evented::Result<()> {
//!     tasks.spawn(async { emit(OrderPlaced).await });
//!     Ok(())
//! }
//! ```

use evented::prelude::*;
use tokio::task::JoinSet;

#[event]
struct OrderPlaced;

async fn place_order(tasks: &mut JoinSet<evented::Result<()>>) -> evented::Result<()> {
    tasks.spawn(emit(OrderPlaced));
    Ok(())
}

fn main() {}
