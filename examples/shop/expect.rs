//! What must come out: the same orders walked through once more, without events, queues or databases.

use std::collections::BTreeMap;

use crate::{catalogue::CATALOGUE, mail, orders::Order};

#[derive(Default)]
pub struct Expected {
    pub accepted: Vec<u32>,
    pub refused: Vec<u32>,
    pub revenue_cents: i64,
    /// What is left on the shelf.
    pub stock: BTreeMap<String, i64>,
    pub confirmations: Tally,
    pub regrets: Tally,
}

/// The deliveries of one handler, by how they ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub done: u64,
    /// Failed attempts that were tried again.
    pub retried: u64,
    pub dead: u64,
}

impl Expected {
    /// Of orders in the sequence in which they were placed: it decides who comes too late.
    pub fn of(orders: &[Order]) -> Self {
        let stock = CATALOGUE.iter().map(|product| (product.sku.to_owned(), product.stock)).collect();
        let mut expected = Self { stock, ..Self::default() };
        for order in orders {
            expected.add(order);
        }
        expected
    }

    fn add(&mut self, order: &Order) {
        let Some(number) = order.number else { return };
        let mut left = self.stock.clone();
        for item in &order.cart.items {
            *left.entry(item.sku.clone()).or_default() -= i64::from(item.quantity);
        }
        let mails = if left.values().all(|left| *left >= 0) {
            self.stock = left;
            self.accepted.push(number);
            self.revenue_cents += order.total_cents;
            &mut self.confirmations
        } else {
            self.refused.push(number);
            &mut self.regrets
        };
        if mail::bounces(&order.cart.email) {
            mails.dead += 1;
        } else {
            mails.done += 1;
            mails.retried += u64::from(mail::greylisted(number));
        }
    }
}
