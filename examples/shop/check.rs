//! Holds what was found against what was expected: in the counters, the books and the files.

use std::{fmt::Debug, fs, io, path::Path};

use evented::Count;

use crate::{
    books::Books,
    expect::{Expected, Tally},
    figures::Metrics,
    invoice,
    shop::Shop,
};

/// The comparisons made, and in words those that failed.
#[derive(Default)]
pub struct Checks {
    pub made: usize,
    pub mismatches: Vec<String>,
}

/// How the orders that this run placed were answered.
#[derive(Default, Clone, Copy)]
pub struct Answers {
    pub accepted: u64,
    pub refused: u64,
    pub revenue_cents: i64,
}

impl Checks {
    /// The deliveries since the shop was opened.
    pub fn deliveries(&mut self, counts: &[Count], expected: &Expected) {
        let all = Tally { done: expected.accepted.len() as u64, ..Tally::default() };
        self.tally(counts, "OrderPlaced/book_payment", all);
        self.tally(counts, "OrderPlaced/write_invoice", all);
        self.tally(counts, "OrderPlaced/send_confirmation", expected.confirmations);
        self.tally(counts, "OrderRefused/send_regrets", expected.regrets);
    }

    /// What runs inside the process knows only this run.
    pub fn this_run(&mut self, counts: &[Count], metrics: &Metrics, answers: Answers) {
        let Answers { accepted, refused, revenue_cents } = answers;
        let reserved = Tally { done: accepted, dead: refused, ..Tally::default() };
        let counted = Tally { done: accepted + refused, ..Tally::default() };
        self.tally(counts, "OrderPlaced/reserve_stock", reserved);
        self.tally(counts, "OrderAnswered/count", counted);
        self.equal("accepted orders in the metrics", &metrics.accepted(), &accepted);
        self.equal("refused orders in the metrics", &metrics.refused(), &refused);
        self.equal("revenue in the metrics, in cents", &metrics.revenue_cents(), &revenue_cents);
    }

    pub fn books(&mut self, books: &Books, expected: &Expected) {
        self.equal("accepted orders", &books.accepted, &expected.accepted);
        self.equal("refused orders", &books.refused, &expected.refused);
        self.equal("stock", &books.stock, &expected.stock);
        self.equal("entries in the ledger", &usize::try_from(books.ledger_entries), &Ok(expected.accepted.len()));
        self.equal("cents in the ledger", &books.ledger_cents, &expected.revenue_cents);
        self.equal("orders booked wrongly", &books.wrongly_booked, &Vec::new());
    }

    pub fn files(&mut self, shop: &Shop, expected: &Expected) -> io::Result<()> {
        let mut missing = expected.accepted.clone();
        missing.retain(|order| !invoice::file(&shop.invoices(), *order).is_file());
        self.equal("orders without an invoice", &missing, &Vec::new());

        // A mail that went out just before a crash goes out again: more files than mails are no mistake, fewer are.
        let wanted = expected.confirmations.done + expected.regrets.done;
        self.equal("mails that are missing", &wanted.saturating_sub(mails(&shop.mails())?), &0);
        Ok(())
    }

    fn tally(&mut self, counts: &[Count], handler: &str, expected: Tally) {
        let found = counts.iter().find(|count| count.handler == handler);
        let found = found.map(|count| Tally { done: count.done, retried: count.retried, dead: count.dead });
        self.equal(handler, &found.unwrap_or_default(), &expected);
    }

    fn equal<T: PartialEq + Debug>(&mut self, what: &str, found: &T, expected: &T) {
        self.made += 1;
        if found != expected {
            self.mismatches.push(format!("{what}: expected {expected:?}, found {found:?}"));
        }
    }
}

fn mails(directory: &Path) -> io::Result<u64> {
    let mut mails = 0;
    for file in fs::read_dir(directory)? {
        mails += u64::from(file?.path().extension().is_some_and(|extension| extension == "eml"));
    }
    Ok(mails)
}
