//! Names that a person types: one that no store knows is a mistake, and not a queue or a handler without deliveries.

use std::collections::BTreeSet;

use crate::{
    error::{Error, ErrorKind},
    instance::Instance,
};

/// How many names a text lists.
const LISTED_MAX: usize = 10;

/// Refuses a queue that no handler known to any store is in, and that is not paused either.
pub(crate) async fn check_queue(instance: &Instance, queue: &str) -> Result<(), Error> {
    let mut known = BTreeSet::new();
    for store in instance.stores() {
        known.extend(store.catalogue.read().await?.handlers.into_iter().map(|entry| entry.queue));
    }
    if known.contains(queue) {
        return Ok(());
    }
    // Those of retired handlers, and those that were paused before their last handler was retired.
    for store in instance.stores() {
        let stats = store.asked()?.stats().await?;
        known.extend(stats.handlers.into_iter().map(|count| count.queue).chain(stats.paused));
    }
    refuse("no handler that a store knows is in the queue", queue, &known)
}

/// Refuses a handler that no store knows, by its id or an alias, and of which none has a delivery.
pub(crate) async fn check_handler(instance: &Instance, handler: &str) -> Result<(), Error> {
    let mut known = BTreeSet::new();
    for store in instance.stores() {
        let catalogue = store.catalogue.read().await?;
        for entry in catalogue.handlers {
            known.extend(entry.aliases);
            known.insert(entry.handler.to_string());
        }
        known.extend(catalogue.retired);
    }
    if known.contains(handler) {
        return Ok(());
    }
    for store in instance.stores() {
        known.extend(store.asked()?.stats().await?.handlers.into_iter().map(|count| count.handler));
    }
    refuse("no store knows a handler", handler, &known)
}

fn refuse(what: &str, name: &str, known: &BTreeSet<String>) -> Result<(), Error> {
    if known.contains(name) {
        return Ok(());
    }
    let cure = match nearest(name, known.iter().map(String::as_str)) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None if known.is_empty() => "none is known yet".to_owned(),
        None => {
            let listed: Vec<_> = known.iter().take(LISTED_MAX).map(|name| format!("`{name}`")).collect();
            format!("known are {}", listed.join(", "))
        }
    };
    Err(Error::new(ErrorKind::NotFound, format!("{what} `{name}`; {cure}")))
}

/// The name that was probably meant: no more than a third of its letters differ.
pub(crate) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let near = known.map(|known| (distance(name, known), known)).min()?;
    (near.0 * 3 <= near.1.chars().count().max(3)).then_some(near.1)
}

/// How many letters must be added, taken away or replaced to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (index, letter) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = index + 1;
        for (at, other) in b.iter().enumerate() {
            let replaced = before + usize::from(letter != *other);
            before = row[at + 1];
            row[at + 1] = replaced.min(row[at] + 1).min(before + 1);
        }
    }
    row[b.len()]
}
