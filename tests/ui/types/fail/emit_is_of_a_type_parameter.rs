//! A type parameter may stand for a transactional event, which `emit` must not take. Say in its bound that it does not.
//!
//! ```
//! # use evented::prelude::*;
//! use evented::Immediate;
//! async fn tell<E: Event<Delivery = Immediate>>(event: E) -> evented::Result<()> {
//!     emit(event).await
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

async fn tell<E: Event>(event: E) -> evented::Result<()> {
    emit(event).await
}

fn main() {}
