//! Nobody is there to take a handler's value. Return `Result<(), E>`, and emit an event for what others should know.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced)]
//! async fn send_mail(event: &OrderPlaced) -> Result<(), std::io::Error> {
//!     Ok(())
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
async fn send_mail(event: &OrderPlaced) -> Result<u32, std::io::Error> {
    Ok(1)
}

fn main() {}
