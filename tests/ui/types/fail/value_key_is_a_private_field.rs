//! A handler names what it can see, in its attribute as in its body. Make the field visible to the handler's module.
//!
//! ```
//! # use evented::prelude::*;
//! mod orders {
//!     #[evented::event]
//!     # #[derive(serde::Serialize, serde::Deserialize)]
//!     pub struct OrderPlaced {
//!         pub order_id: u64,
//!     }
//! }
//!
//! use orders::OrderPlaced;
//!
//! #[handler(OrderPlaced, background(unique(key = "order_id", within = "10m")))]
//! async fn send_mail(event: OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

mod orders {
    #[evented::event]
    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct OrderPlaced {
        order_id: u64,
    }
}

use orders::OrderPlaced;

#[handler(OrderPlaced, background(unique(key = "order_id", within = "10m")))]
async fn send_mail(event: OrderPlaced) {}

fn main() {}
