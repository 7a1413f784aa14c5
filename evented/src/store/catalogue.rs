//! Handlers as all processes know them.

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use std::collections::HashSet;
use std::{fmt, sync::Arc, time::Duration};

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
use crate::id::Key;
use crate::retry::Policy;

use super::StoreTime;

/// Handlers to record.
#[derive(Debug, Clone)]
pub struct Record {
    /// The generation of the catalogue as it was read.
    pub generation: u64,
    /// When the process began, by the store's clock: what was retired later stays retired.
    pub began: StoreTime,
    /// The handlers.
    pub handlers: Arc<[CatalogueEntry]>,
}

/// The answer to a change of what was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swap<T> {
    /// It is done.
    Done(T),
    /// Nothing was done: another has changed it since it was read. Read it again.
    Moved,
}

/// A handler as the catalogue knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// The handler's id.
    pub handler: Arc<str>,
    /// Its earlier ids.
    pub aliases: Vec<String>,
    /// The id of its event.
    pub event: String,
    /// The event's earlier ids.
    pub event_aliases: Vec<String>,
    /// `background` or `outbox`.
    pub route: Route,
    /// The queue's name.
    pub queue: String,
    /// How its deliveries are run.
    pub policy: Policy,
    /// The field of the payload by which its deliveries are unique, and for how long.
    pub unique: Option<(String, Duration)>,
    /// The field of the payload by which its deliveries are ordered.
    pub ordered_by: Option<String>,
}

/// How an event reaches a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Route {
    /// Inside `emit`, or inside `emit_in` for `in_process(in_transaction)`.
    InProcess,
    /// In a worker, after `emit` stored it.
    Background,
    /// In a worker, after the emitter's commit.
    Outbox,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::InProcess => "in_process",
            Self::Background => "background",
            Self::Outbox => "outbox",
        })
    }
}

/// The catalogue as it was read.
#[derive(Debug, Clone, Default)]
pub struct CatalogueState {
    /// Another random number after each change, from 1 to 2^63 - 1: compared for equality alone.
    pub generation: u64,
    /// Every handler that is not retired.
    pub handlers: Vec<CatalogueEntry>,
    /// The ids of those that are.
    pub retired: Vec<String>,
}

/// A number for a handler that is recorded, by which rows name it; none that is `taken`.
///
/// It is a hash of the handler's id: where a person deletes the handler's entry while deliveries wait for it, the next process that
/// records it gives it the number that they have. So no other handler gets them, and they run.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub(crate) fn number_of(handler: &str, taken: &mut HashSet<i32>) -> i32 {
    let [a, b, c, d, ..] = Key::derive("", handler).to_bytes();
    let mut number = (i32::from_be_bytes([a, b, c, d]) & i32::MAX).max(1);
    while !taken.insert(number) {
        number = number.checked_add(1).unwrap_or(1);
    }
    number
}
