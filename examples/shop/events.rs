//! What happens in the shop: three facts.

use evented::prelude::*;
use serde::{Deserialize, Serialize};

use crate::orders::Cart;

/// An order was placed and its goods are reserved. Transactional: the event exists if, and only if, the order does.
#[event(transactional)]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OrderPlaced {
    pub number: u32,
    pub cart: Cart,
    pub total_cents: i64,
}

/// An order was turned down, because a product is out of stock.
#[event(transactional)]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OrderRefused {
    pub number: u32,
    pub cart: Cart,
    pub out_of_stock: String,
}

/// A customer has an answer. Immediate: it only moves numbers inside this process, so it needs no serde.
#[event]
#[derive(Debug)]
pub struct OrderAnswered {
    pub accepted: bool,
    pub total_cents: i64,
}
