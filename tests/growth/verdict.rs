//! Which tables grew, beyond what the documentation promises to keep.

use std::{collections::BTreeMap, time::Duration};

use evented_tests::figures::Line;

use crate::{load::Kept, tables::Size};

/// What is in flight at one moment and not at another: this part of the rows, and so many.
const ROWS_PART: u64 = 10;
const ROWS: u64 = 2000;
/// Files and indexes grow in steps.
const BYTES: u64 = 4 << 20;

/// What was measured at each mark.
#[derive(Default)]
pub struct Verdict(Vec<(BTreeMap<String, Size>, Kept)>);

impl Verdict {
    pub fn add(&mut self, sizes: BTreeMap<String, Size>, kept: Kept) {
        self.0.push((sizes, kept));
    }

    /// Prints what was measured last.
    pub fn print_last(&self, store: &str, at: Duration) {
        for (table, size) in self.0.last().into_iter().flat_map(|(sizes, _)| sizes) {
            Line::new("growth", store)
                .figure("at_s", at.as_secs_f64())
                .with("table", table.as_str())
                .with("rows", size.rows)
                .with("bytes", size.bytes)
                .print(true);
        }
    }

    /// Prints a line for each table. Whether all were flat from the mark before the last to the last.
    pub fn print(&self, store: &str) -> bool {
        let [.., (before, kept_before), (after, kept)] = &self.0[..] else { return false };
        let mut all = true;
        for (table, now) in after {
            let then = before.get(table).copied().unwrap_or_default();
            let grown = now.rows.saturating_sub(then.rows);
            let explained = explained(table, kept).saturating_sub(explained(table, kept_before));
            // What is explained may also cost its bytes.
            let row = now.bytes / now.rows.max(1);
            let bytes = now.bytes.saturating_sub(then.bytes);
            let flat = grown <= explained + then.rows / ROWS_PART + ROWS
                && bytes <= explained * row + then.bytes / ROWS_PART + BYTES;
            all &= flat;
            Line::new("verdict", store)
                .with("table", table.as_str())
                .with("grown", grown)
                .with("explained", explained)
                .with("bytes_grown", bytes)
                .with("flat", flat)
                .print(true);
        }
        all
    }
}

/// How many rows of a table the documentation promises to keep.
fn explained(table: &str, kept: &Kept) -> u64 {
    match table.rsplit(['.', ':', '_']).next() {
        Some("once") if table.starts_with("queue") => kept.ids,
        Some("inbox") if table.starts_with("outbox") => kept.booked,
        _ => 0,
    }
}
