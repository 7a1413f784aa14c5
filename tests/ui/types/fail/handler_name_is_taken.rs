//! Two functions of a module have two names, also when evented alone calls them. Rename one.
//!
//! ```
//! # use evented::prelude::*;
//! # #[event] #[derive(serde::Serialize, serde::Deserialize)] struct OrderPlaced;
//! #[handler(OrderPlaced)]
//! fn count(event: &OrderPlaced) {}
//!
//! #[handler(OrderPlaced, background)]
//! fn count_stored(event: &OrderPlaced) {}
//! ```

#![allow(unused)]

use evented::prelude::*;

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct OrderPlaced;

#[handler(OrderPlaced)]
fn count(event: &OrderPlaced) {}

#[handler(OrderPlaced, background)]
fn count(event: &OrderPlaced) {}

fn main() {}
