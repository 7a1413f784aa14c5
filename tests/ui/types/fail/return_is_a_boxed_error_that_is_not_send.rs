//! An error goes from the handler's thread to the one that logs it. Box it as `dyn Error + Send + Sync`.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] struct OrderPlaced;
//! #[handler(OrderPlaced)]
//! async fn send_mail(event: &OrderPlaced) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//!     Ok(())
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[handler(OrderPlaced)]
async fn send_mail(event: &OrderPlaced) -> Result<(), Box<dyn std::error::Error>> {
    Ok(())
}

fn main() {}
