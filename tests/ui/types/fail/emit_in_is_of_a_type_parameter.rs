//! A type parameter may stand for an event that is not transactional, which `emit_in` must not take. Say in its bound
//! that it does not.
//!
//! ```
//! # use evented::prelude::*;
//! use evented::Transactional;
//! async fn tell<E: Event<Delivery = Transactional>>(tx: &mut Tx<Sqlite>, event: E) -> evented::Result<()> {
//!     emit_in(tx, event).await
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

async fn tell<E: Event>(tx: &mut Tx<Sqlite>, event: E) -> evented::Result<()> {
    emit_in(tx, event).await
}

fn main() {}
