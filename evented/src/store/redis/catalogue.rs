//! What all processes know of each other: their handlers. A server may lose it; whoever knew it writes it again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use redis::Cmd;
use serde::{Deserialize, Serialize};

use crate::{
    error::{StoreError, Written},
    retry::{Backoff, Policy},
    store::{CatalogueEntry, CatalogueState, Route},
    time,
};

use super::{
    changes::Changes,
    layout::{MIN_COMPATIBLE, VERSION},
    link::Link,
    script::{CATALOGUE, RECORD, RETIRE, digits, int, list, text, tuple},
};

/// A handler's entry as the server has it, in JSON.
#[derive(Serialize, Deserialize)]
pub(super) struct Entry {
    pub event: String,
    pub route: String,
    pub queue: String,
    aliases: Vec<String>,
    event_aliases: Vec<String>,
    attempts_max: u32,
    backoff_first_ms: i64,
    backoff_max_ms: Option<i64>,
    timeout_ms: i64,
    unique: Option<(String, i64)>,
    ordered_by: Option<String>,
}

/// What this process knows of the catalogue: what it has recorded, and what it has read.
#[derive(Default)]
pub(super) struct Known(Mutex<Memory>);

#[derive(Default, Clone)]
struct Memory {
    generation: u64,
    handlers: BTreeMap<String, String>,
    retired: BTreeSet<String>,
}

pub(super) async fn record(
    link: &Link,
    changes: &Changes,
    known: &Known,
    handlers: &[CatalogueEntry],
) -> Result<(), StoreError> {
    let handlers: BTreeMap<_, _> = handlers
        .iter()
        .map(|entry| Ok((entry.handler.to_string(), to_json(entry)?)))
        .collect::<Result<_, StoreError>>()?;
    let seen = known.lock().generation;
    send(link, changes, seen, "all", &handlers, &BTreeSet::new()).await?;
    let mut memory = known.lock();
    for handler in handlers.keys() {
        memory.retired.remove(handler);
    }
    memory.handlers.extend(handlers);
    Ok(())
}

async fn send(
    link: &Link,
    changes: &Changes,
    seen: u64,
    how: &str,
    handlers: &BTreeMap<String, String>,
    retired: &BTreeSet<String>,
) -> Result<(), StoreError> {
    let fill = |command: &mut Cmd| {
        command.arg(changes.origin()).arg(VERSION).arg(MIN_COMPATIBLE).arg(seen).arg(how).arg(handlers.len());
        for (handler, entry) in handlers {
            command.arg(handler).arg(entry);
        }
        command.arg(retired.len()).arg(retired.iter().collect::<Vec<_>>());
    };
    if int(&link.call(&RECORD, fill).await?)? == 1 {
        changes.here();
    }
    Ok(())
}

/// Reads the catalogue. What the server has lost of it, as far as this process knew it, is recorded again.
///
/// A generation that went back would keep every process from planning anew: it is moved beyond the highest that was seen.
pub(super) async fn read(link: &Link, changes: &Changes, known: &Known) -> Result<CatalogueState, StoreError> {
    let mut read = ask(link).await?;
    let before = known.lock().clone();
    let lost_handlers: BTreeMap<_, _> = before
        .handlers
        .into_iter()
        .filter(|(handler, _)| !read.handlers.contains_key(handler) && !read.retired.contains(handler))
        .collect();
    let lost_retired: BTreeSet<_> = before
        .retired
        .into_iter()
        .filter(|handler| !read.handlers.contains_key(handler) && !read.retired.contains(handler))
        .collect();
    if read.generation < before.generation || !lost_handlers.is_empty() || !lost_retired.is_empty() {
        tracing::warn!(
            handlers = lost_handlers.len(),
            "redis has lost what was stored in it, or a part; recording the handlers again, so that events are stored for them"
        );
        send(link, changes, before.generation, "absent", &lost_handlers, &lost_retired).await?;
        read = ask(link).await?;
    }
    let handlers = read.handlers.iter().filter(|(handler, _)| !read.retired.contains(*handler));
    let handlers = handlers.map(|(handler, entry)| from_json(handler, entry)).collect::<Result<_, _>>()?;
    let retired = read.retired.iter().cloned().collect();
    let generation = read.generation;
    let mut memory = known.lock();
    if memory.generation <= generation {
        read.handlers.retain(|handler, _| !read.retired.contains(handler));
        *memory = read;
    }
    Ok(CatalogueState { generation, handlers, retired })
}

async fn ask(link: &Link) -> Result<Memory, StoreError> {
    let [generation, handlers, retired] = tuple(link.call(&CATALOGUE, |_| {}).await?)?;
    let mut all = BTreeMap::new();
    let mut handlers = list(handlers)?.into_iter();
    while let (Some(handler), Some(entry)) = (handlers.next(), handlers.next()) {
        all.insert(text(handler)?, text(entry)?);
    }
    let retired = list(retired)?.into_iter().map(text).collect::<Result<_, _>>()?;
    Ok(Memory { generation: digits(generation)?, handlers: all, retired })
}

pub(super) async fn retire(link: &Link, changes: &Changes, handler: &str) -> Result<bool, StoreError> {
    let fill = |command: &mut Cmd| {
        command.arg(changes.origin()).arg(handler);
    };
    let retired = int(&link.call(&RETIRE, fill).await?)? == 1;
    if retired {
        changes.here();
    }
    Ok(retired)
}

impl Known {
    /// The highest generation that was seen.
    pub(super) fn generation(&self) -> u64 {
        self.lock().generation
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_json(entry: &CatalogueEntry) -> Result<String, StoreError> {
    let (first, max) = match entry.policy.backoff {
        Backoff::Exponential { first, max } => (first, Some(time::millis(max))),
        Backoff::Fixed(wait) => (wait, None),
    };
    let entry = Entry {
        event: entry.event.clone(),
        route: entry.route.to_string(),
        queue: entry.queue.clone(),
        aliases: entry.aliases.clone(),
        event_aliases: entry.event_aliases.clone(),
        attempts_max: entry.policy.attempts_max,
        backoff_first_ms: time::millis(first),
        backoff_max_ms: max,
        timeout_ms: time::millis(entry.policy.timeout),
        unique: entry.unique.as_ref().map(|(field, within)| (field.clone(), time::millis(*within))),
        ordered_by: entry.ordered_by.clone(),
    };
    serde_json::to_string(&entry).map_err(|error| unreadable().because(error))
}

fn from_json(handler: &str, entry: &str) -> Result<CatalogueEntry, StoreError> {
    let entry = Entry::parse(entry)?;
    let first = time::from_millis(entry.backoff_first_ms);
    let backoff = match entry.backoff_max_ms {
        Some(max) => Backoff::Exponential { first, max: time::from_millis(max) },
        None => Backoff::Fixed(first),
    };
    Ok(CatalogueEntry {
        handler: handler.into(),
        route: entry.route(),
        aliases: entry.aliases,
        event: entry.event,
        event_aliases: entry.event_aliases,
        queue: entry.queue,
        policy: Policy { attempts_max: entry.attempts_max, backoff, timeout: time::from_millis(entry.timeout_ms) },
        unique: entry.unique.map(|(field, within)| (field, time::from_millis(within))),
        ordered_by: entry.ordered_by,
    })
}

impl Entry {
    pub(super) fn parse(entry: &str) -> Result<Self, StoreError> {
        serde_json::from_str(entry).map_err(|error| unreadable().because(error))
    }

    pub(super) fn route(&self) -> Route {
        if self.route == "outbox" { Route::Outbox } else { Route::Background }
    }
}

fn unreadable() -> StoreError {
    StoreError::lasting("a handler's entry in the catalogue cannot be read or written", Written::Nothing)
}
