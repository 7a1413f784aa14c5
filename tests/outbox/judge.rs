//! What became of every event. The truth is the business table: a row that is there was committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::ensure;
use evented::sqlx::Pool;

use crate::{
    base::Base,
    child::{COMMITTED, EVENTS, ROLLED_BACK},
    notes::read,
};

/// What was found.
pub struct Verdict {
    /// Events whose business row is there.
    pub committed: usize,
    /// Events that were begun, and whose business row is not there.
    pub rolled_back: usize,
    /// Committed events that some handler never handled.
    pub lost: BTreeSet<i64>,
    /// Events that some handler handled, and that were not committed.
    pub ghosts: BTreeSet<i64>,
    /// Events that a handler with a transaction wrote more than once.
    pub effects_twice: BTreeSet<i64>,
    /// How many events another handler handled more than once.
    pub handled_twice: usize,
    /// What to say of each that should not be.
    findings: Vec<String>,
}

/// How often each event was handled.
type Handled = BTreeMap<i64, i64>;

/// Compares what was begun, what is there and what was handled.
pub async fn judge<Db: Base>(pool: &Pool<Db>, folder: &Path) -> anyhow::Result<Verdict> {
    let begun: BTreeMap<i64, i64> = read(folder, "begun")?.into_iter().collect();
    let rows: BTreeMap<i64, i64> = Db::read(pool, "select number, events from orders").await?.into_iter().collect();
    // What the writers were told, and what the database remembers: evented has no part in it.
    for (order, events) in &rows {
        ensure!(begun.get(order) == Some(events), "nobody began the order {order} of {events} events");
    }
    for (order, ended) in read(folder, "ended")? {
        let there = rows.contains_key(&order);
        ensure!(ended != COMMITTED || there, "the database lost the order {order}, which it said was committed");
        ensure!(ended != ROLLED_BACK || !there, "the order {order} was rolled back, and is there");
    }
    let events = |orders: &BTreeMap<i64, i64>| -> BTreeSet<i64> {
        orders.iter().flat_map(|(order, events)| (0..*events).map(move |at| order * EVENTS + at)).collect()
    };
    let (all, committed) = (events(&begun), events(&rows));
    ensure!(!committed.is_empty(), "nothing was committed");

    let count = |notes: Vec<(i64, i64)>| {
        let mut handled = Handled::new();
        for (event, _) in notes {
            *handled.entry(event).or_default() += 1;
        }
        handled
    };
    let effects = async |sql| anyhow::Ok(Db::read(pool, sql).await?.into_iter().collect::<Handled>());
    let in_tx = [
        ("outbox, in a transaction", effects("select number, count(*) from effects group by number").await?),
        ("background, in a transaction", effects("select number, count(*) from effects_inbox group by number").await?),
    ];
    let without = [("outbox", count(read(folder, "told")?)), ("background", count(read(folder, "mailed")?))];

    let mut verdict = Verdict {
        committed: committed.len(),
        rolled_back: all.len() - committed.len(),
        lost: BTreeSet::new(),
        ghosts: BTreeSet::new(),
        effects_twice: BTreeSet::new(),
        handled_twice: without.iter().flat_map(|(_, handled)| twice(handled)).collect::<BTreeSet<_>>().len(),
        findings: Vec::new(),
    };
    for (who, handled) in in_tx.iter().chain(&without) {
        let lost: BTreeSet<i64> = committed.iter().filter(|event| !handled.contains_key(event)).copied().collect();
        let ghosts: BTreeSet<i64> = handled.keys().filter(|event| !committed.contains(event)).copied().collect();
        verdict.find(who, "never handled", &lost);
        verdict.find(who, "handled though not committed", &ghosts);
        verdict.lost.extend(lost);
        verdict.ghosts.extend(ghosts);
    }
    for (who, handled) in &in_tx {
        let twice = twice(handled).collect();
        verdict.find(who, "written more than once", &twice);
        verdict.effects_twice.extend(twice);
    }
    Ok(verdict)
}

fn twice(handled: &Handled) -> impl Iterator<Item = i64> {
    handled.iter().filter(|(_, times)| **times > 1).map(|(event, _)| *event)
}

impl Verdict {
    fn find(&mut self, who: &str, what: &str, events: &BTreeSet<i64>) {
        if !events.is_empty() {
            let some: Vec<_> = events.iter().take(5).map(i64::to_string).collect();
            self.findings.push(format!("{who}: {} {what}: {}", events.len(), some.join(", ")));
        }
    }

    /// Whether the outbox kept its promise.
    pub fn is_well(&self) -> bool {
        self.lost.is_empty() && self.ghosts.is_empty() && self.effects_twice.is_empty()
    }

    /// Says on the standard error output what should not be.
    pub fn explain(&self, seed: u64) {
        for finding in &self.findings {
            eprintln!("seed {seed}: {finding}");
        }
    }
}
