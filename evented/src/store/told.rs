//! What a store tells a person: counts, dead letters, and what a change of many came to.

use std::time::{Duration, SystemTime};

use crate::id::{DeliveryId, EventId};

use super::{Payload, Route};

/// A handler's deliveries in one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCount {
    /// The handler's id.
    pub handler: String,
    /// The event's id.
    pub event: String,
    /// Its route.
    pub route: Route,
    /// Its queue, as it was recorded.
    pub queue: String,
    /// Stored and not leased, delayed ones included.
    pub waiting: u64,
    /// Leased now.
    pub running: u64,
    /// Completed since the store was made.
    pub done: u64,
    /// Failed attempts that were, or will be, tried again.
    pub retried: u64,
    /// Dead letters since the store was made.
    pub dead: u64,
    /// For how long the delivery that is due for the longest time has been so; `None` where none is due.
    pub due_for: Option<Duration>,
}

/// What a store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// By handler, sorted by its id.
    pub handlers: Vec<StoredCount>,
    /// The names of the paused queues, sorted.
    pub paused: Vec<String>,
}

/// Which dead letters are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Letters {
    /// The one of this delivery.
    One(DeliveryId),
    /// All of this handler.
    Of(String),
}

/// How long dead letters are kept, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Older ones are deleted.
    pub age: Duration,
    /// Beyond so many of a store, the oldest are deleted.
    pub count: u64,
}

/// What a sweep deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Dead letters.
    pub dead_letters: u64,
    /// Deliveries pushed once that were forgotten before their time, since there were too many.
    pub forgotten_early: u64,
    /// There is more to sweep.
    pub more: bool,
}

/// One step of a change of many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Step {
    /// How many it was.
    pub count: u64,
    /// There may be more.
    pub more: bool,
}

/// A delivery that will not be tried again until a person says so.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The delivery.
    pub id: DeliveryId,
    /// The event's id.
    pub event_id: EventId,
    /// The handler's id.
    pub handler: String,
    /// The id of its event's type.
    pub event: String,
    /// Attempts that failed.
    pub attempts: u32,
    /// Why, in one line.
    pub error: String,
    /// When, by the store's clock.
    pub died_at: SystemTime,
    /// The encoded event.
    pub payload: Payload,
}
