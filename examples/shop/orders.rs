//! An order: who wants what. From the data file, or from an HTTP request.

use anyhow::{Context, ensure};
use lettre::Address;
use serde::{Deserialize, Serialize};

use crate::catalogue;

/// What a customer sends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cart {
    #[serde(default)]
    pub name: String,
    pub email: String,
    #[serde(default)]
    pub address: String,
    pub items: Vec<Item>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Item {
    pub sku: String,
    pub quantity: u32,
}

/// A cart that can be sold: it is not empty, the shop knows its products, and it has a price.
#[derive(Debug)]
pub struct Order {
    /// Chosen by who sent it, so that sending it twice places it once. `None`: the shop chooses the next one.
    pub number: Option<u32>,
    pub cart: Cart,
    pub total_cents: i64,
}

impl Order {
    pub fn new(number: Option<u32>, cart: Cart) -> anyhow::Result<Self> {
        ensure!(cart.email.parse::<Address>().is_ok(), "`{}` is not an email address", cart.email);
        ensure!((1..=20).contains(&cart.items.len()), "an order has 1 to 20 items, not {}", cart.items.len());
        let mut total_cents = 0;
        for Item { sku, quantity } in &cart.items {
            let product = catalogue::find(sku).with_context(|| format!("the shop does not sell `{sku}`"))?;
            ensure!((1..=100).contains(quantity), "the quantity of `{sku}` is 1 to 100, not {quantity}");
            total_cents += product.price_cents * i64::from(*quantity);
        }
        Ok(Self { number, cart, total_cents })
    }
}

/// The orders of the data file, numbered from 1.
pub fn from_file() -> anyhow::Result<Vec<Order>> {
    #[derive(Deserialize)]
    struct Line {
        number: u32,
        #[serde(flatten)]
        cart: Cart,
    }
    let parse = |text| {
        let line: Line = serde_json::from_str(text)?;
        Order::new(Some(line.number), line.cart)
    };
    let lines = include_str!("orders.jsonl").lines().enumerate();
    lines.map(|(i, text)| parse(text).with_context(|| format!("orders.jsonl, line {}", i + 1))).collect()
}
