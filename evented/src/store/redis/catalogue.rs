//! What all processes know of each other: their handlers. A server may lose it; whoever knew it writes it again.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use redis::{Cmd, Value};
use serde::{Deserialize, Serialize};

use crate::{
    error::{StoreError, Written},
    id::new_generation,
    retry::{Backoff, Policy},
    store::{CatalogueEntry, CatalogueState, Record, Route, Swap},
    time,
};

use super::{
    changes::Changes,
    layout::{MIN_COMPATIBLE, VERSION},
    link::Link,
    script::{CATALOGUE, RECORD, RETIRE, digits, int, list, text, tuple},
};

/// How often it is tried again to put back what was lost, where another process came before.
const SWAPS_MAX: usize = 20;

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

/// What this process knows of the store, as it was read last: which it is, and its handlers.
pub(super) struct Known(Mutex<Memory>);

#[derive(Clone, Default)]
struct Memory {
    identity: String,
    generation: u64,
    /// By id: those that are not retired.
    handlers: BTreeMap<String, Handler>,
    /// By id: when they were retired.
    retired: BTreeMap<String, String>,
    /// The generation at which it was said last that something was lost.
    said: u64,
}

#[derive(Clone)]
struct Handler {
    entry: String,
    /// Its number, and its payloads' versions; `None` where the server has none.
    lane: Option<String>,
}

impl Memory {
    /// What the server, which has `self`, has lost of what was known before. Nothing that was recorded ever goes by itself.
    fn lost_of(&self, before: &Self) -> Lost {
        let known = |handler: &String| self.handlers.contains_key(handler) || self.retired.contains_key(handler);
        let handlers = before.handlers.iter().filter(|(handler, _)| !known(handler));
        let lacks_lane = self.handlers.iter().filter(|(_, handler)| handler.lane.is_none()).map(|(id, handler)| {
            let lane = before.handlers.get(id).and_then(|handler| handler.lane.clone());
            (id.clone(), Handler { lane, ..handler.clone() })
        });
        let retired = before.retired.iter().filter(|(handler, _)| !known(handler));
        Lost {
            handlers: handlers.map(|(id, handler)| (id.clone(), handler.clone())).chain(lacks_lane).collect(),
            retired: retired.map(|(id, when)| (id.clone(), when.clone())).collect(),
        }
    }
}

struct Lost {
    handlers: Vec<(String, Handler)>,
    retired: Vec<(String, String)>,
}

pub(super) async fn record(link: &Link, changes: &Changes, record: &Record) -> Result<Swap<()>, StoreError> {
    let handlers = record.handlers.iter();
    let handlers = handlers
        .map(|entry| Ok((entry.handler.to_string(), Handler { entry: to_json(entry)?, lane: None })))
        .collect::<Result<_, StoreError>>()?;
    let began = record.began.0.to_string();
    send(link, changes, record.generation, &began, &Lost { handlers, retired: Vec::new() }).await
}

async fn send(
    link: &Link,
    changes: &Changes,
    generation: u64,
    began: &str,
    what: &Lost,
) -> Result<Swap<()>, StoreError> {
    let next = new_generation();
    let fill = |command: &mut Cmd| {
        command.arg(changes.origin()).arg(generation).arg(next).arg(began).arg(what.handlers.len());
        for (id, Handler { entry, lane }) in &what.handlers {
            command.arg(id).arg(entry).arg(lane.as_deref().unwrap_or(""));
        }
        command.arg(what.retired.len());
        for (id, when) in &what.retired {
            command.arg(id).arg(when);
        }
    };
    if int(&link.call(&RECORD, fill).await?)? == 0 {
        return Ok(Swap::Moved);
    }
    changes.here();
    Ok(Swap::Done(()))
}

/// Reads the catalogue, and makes the store whole where the server has lost it, or a part: what evented presumes is written
/// again, with the name by which this process knows the store; and what this process knew of the catalogue is recorded again,
/// also of handlers that other processes had recorded, so that events are stored for them. Of another store nothing is known.
pub(super) async fn read(
    link: &Link,
    changes: &Changes,
    known: &Known,
    name: &str,
) -> Result<CatalogueState, StoreError> {
    for _ in 0..SWAPS_MAX {
        let mut before = known.lock().clone();
        let (mut read, made) = ask(link, changes, &before.identity).await?;
        if made {
            changes.here();
        }
        if read.identity != before.identity {
            tracing::warn!(store = name, is = %read.identity, was = %before.identity,
                "another store answers than before: what was known of that one is forgotten");
            before = Memory::default();
        }
        let lost = read.lost_of(&before);
        let whole = lost.handlers.is_empty() && lost.retired.is_empty();
        if (made || !whole) && known.says(read.generation) {
            tracing::warn!(
                store = name,
                handlers = lost.handlers.len(),
                "redis has lost what was stored in it, or a part; what evented knows is recorded again, so that events are \
                 stored for its handlers"
            );
        }
        if whole {
            let handlers = read.handlers.iter().map(|(id, handler)| from_json(id, &handler.entry));
            let handlers = handlers.collect::<Result<_, _>>()?;
            let retired = read.retired.keys().cloned().collect();
            let generation = read.generation;
            let mut memory = known.lock();
            read.said = memory.said;
            *memory = read;
            return Ok(CatalogueState { generation, handlers, retired });
        }
        // Where another process comes before, it is read again.
        send(link, changes, read.generation, "lost", &lost).await?;
    }
    Err(StoreError::transient("the catalogue of handlers changes faster than it can be written", Written::Nothing))
}

async fn ask(link: &Link, changes: &Changes, identity: &str) -> Result<(Memory, bool), StoreError> {
    let fresh = new_generation();
    let fill = |command: &mut Cmd| {
        command.arg(changes.origin()).arg(VERSION).arg(MIN_COMPATIBLE).arg(identity).arg(fresh);
    };
    let [generation, identity, made, entries, lanes, retired, retired_at] = tuple(link.call(&CATALOGUE, fill).await?)?;
    let (mut lanes, mut times) = (pairs(lanes)?, pairs(retired_at)?);
    let mut gone = BTreeMap::new();
    for id in list(retired)? {
        let id = text(id)?;
        let when = times.remove(&id).unwrap_or_else(|| "0".to_owned());
        gone.insert(id, when);
    }
    let handlers = pairs(entries)?.into_iter().filter(|(id, _)| !gone.contains_key(id));
    let handlers = handlers.map(|(id, entry)| {
        let lane = lanes.remove(&id);
        (id, Handler { entry, lane })
    });
    let memory = Memory {
        identity: text(identity)?,
        generation: digits(generation)?,
        handlers: handlers.collect(),
        retired: gone,
        said: 0,
    };
    Ok((memory, int(&made)? == 1))
}

/// A hash, as a script answers it.
fn pairs(value: Value) -> Result<BTreeMap<String, String>, StoreError> {
    let mut pairs = BTreeMap::new();
    let mut values = list(value)?.into_iter();
    while let (Some(key), Some(value)) = (values.next(), values.next()) {
        pairs.insert(text(key)?, text(value)?);
    }
    Ok(pairs)
}

pub(super) async fn retire(
    link: &Link,
    changes: &Changes,
    handler: &str,
    generation: u64,
) -> Result<Swap<bool>, StoreError> {
    let next = new_generation();
    let fill = |command: &mut Cmd| {
        command.arg(changes.origin()).arg(handler).arg(generation).arg(next);
    };
    let retired = int(&link.call(&RETIRE, fill).await?)?;
    if retired == 1 {
        changes.here();
    }
    Ok(if retired < 0 { Swap::Moved } else { Swap::Done(retired == 1) })
}

impl Known {
    /// Of the store of this name nothing else is known.
    pub(super) fn new(identity: String) -> Self {
        Self(Mutex::new(Memory { identity, ..Memory::default() }))
    }

    /// Which store it is.
    pub(super) fn identity(&self) -> String {
        self.lock().identity.clone()
    }

    /// Whether it is to be said that something was lost: once, however many find it out.
    fn says(&self, generation: u64) -> bool {
        let mut memory = self.lock();
        std::mem::replace(&mut memory.said, generation) != generation
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
