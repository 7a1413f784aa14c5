//! A function handles one event, on one route. Write a second function, which may call the first.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced)]
//! fn count(event: &OrderPlaced) {}
//!
//! #[handler(OrderPlaced, background)]
//! fn count_again(event: &OrderPlaced) {
//!     count(event);
//! }
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced)]
#[handler(OrderPlaced, background)]
fn count(event: &OrderPlaced) {}

fn main() {}
