//! The guarantees as a table, made of the promises that show them.

use std::collections::BTreeMap;

use super::{Guarantee, Promise};

/// A store as a column of the [`table`].
#[derive(Debug, Clone)]
pub struct Column {
    store: String,
    survives: String,
    /// How many promises show each guarantee.
    shown: BTreeMap<Guarantee, usize>,
}

impl Column {
    /// A store by its name, and what a stored delivery survives in it.
    #[must_use]
    pub fn new(store: impl Into<String>, survives: impl Into<String>) -> Self {
        Self { store: store.into(), survives: survives.into(), shown: BTreeMap::new() }
    }

    /// Adds the promises of a suite that the store passes.
    #[must_use]
    pub fn passes<S>(mut self, promises: &[Promise<S>]) -> Self {
        for promise in promises {
            *self.shown.entry(promise.guarantee).or_default() += 1;
        }
        self
    }
}

/// A table in Markdown: a row for each guarantee with the number of promises that show it of each store, and what a stored
/// delivery survives.
#[must_use]
pub fn table(columns: &[Column]) -> String {
    let row = |head: &str, cell: &dyn Fn(&Column) -> String| {
        let cells: Vec<_> = std::iter::once(head.to_owned()).chain(columns.iter().map(cell)).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let shown = |guarantee| move |column: &Column| column.shown.get(guarantee).map_or("-".to_owned(), usize::to_string);
    let head = [row("guarantee", &|column| column.store.clone()), format!("|---|{}\n", "---|".repeat(columns.len()))];
    let guarantees = Guarantee::ALL.iter().map(|guarantee| row(guarantee.text(), &shown(guarantee)));
    let survives = row("a stored delivery survives", &|column| column.survives.clone());
    head.into_iter().chain(guarantees).chain([survives]).collect()
}
