//! What is pushed, and what a push answers.

use std::{sync::Arc, time::Duration};

use crate::{
    id::{DeliveryId, EventId, Key},
    origin::Origin,
    retry::Policy,
    time,
};

use super::Payload;

/// A batch to store.
#[derive(Debug, Clone)]
pub struct Push {
    /// The generation of the catalogue from which the deliveries were planned.
    pub generation: u64,
    /// The push may be repeated, by a relay or by a caller who chose the event's id: remember its deliveries.
    pub once: bool,
    /// When the push is over, by the store's clock: it stores nothing after that. `None`: never, since what it may repeat is
    /// remembered for longer than it can be on its way.
    pub until: Option<StoreTime>,
    /// What to store.
    pub deliveries: Arc<[NewDelivery]>,
    /// Deliveries that were pushed once and will not be again.
    pub finished: Arc<[DeliveryId]>,
}

impl Push {
    /// A push that is not repeated.
    pub fn of(generation: u64, deliveries: impl Into<Arc<[NewDelivery]>>) -> Self {
        Self { generation, once: false, until: None, deliveries: deliveries.into(), finished: [].into() }
    }

    /// The same, as one that may be repeated.
    #[must_use]
    pub fn once(self) -> Self {
        Self { once: true, ..self }
    }
}

/// How long a store remembers the deliveries of a push that may be repeated.
pub const ONCE_RETENTION: Duration = Duration::from_hours(7 * 24);

/// How long it remembers them once they are [finished](Push::finished): longer than the last repetition can be on its way.
pub const ONCE_FINISHED: Duration = Duration::from_mins(2);

/// How many of them it remembers: of more, the oldest are forgotten sooner.
pub const ONCE_COUNT: u64 = 1_000_000;

/// How long a database remembers which deliveries of another store ran in it. An older delivery is not run.
pub const INBOX_RETENTION: Duration = Duration::from_hours(30 * 24);

/// How long it remembers those that their own store has [settled](super::OutboxStore::settled): longer than a transaction goes on
/// whose process stands still.
pub const INBOX_SETTLED: Duration = Duration::from_mins(10);

/// A time of a store's clock, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreTime(pub i64);

impl StoreTime {
    /// The end of all time.
    pub const MAX: Self = Self(i64::MAX);

    /// So much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(time::millis(duration)))
    }
}

/// The answer to a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// All of it is stored, but for these, in the order in which they were pushed: the store has them already, such a push has
    /// stored them before, or another delivery stands for them by its [unique key](UniqueKey).
    Stored(Vec<DeliveryId>),
    /// Nothing was stored: the catalogue has changed since the push was planned; read it and plan again.
    CatalogueMoved,
    /// Nothing was stored: the push came after its end.
    TooLate,
}

impl Pushed {
    /// Whether the push was taken.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        matches!(self, Self::Stored(_))
    }
}

/// A delivery to store.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    /// Derived from the event's and the handler's id.
    pub id: DeliveryId,
    /// The event's id.
    pub event_id: EventId,
    /// The handler's id, as the catalogue has it.
    pub handler: Arc<str>,
    /// Where the event comes from.
    pub origin: Origin,
    /// The payload's version.
    pub version: u32,
    /// When the event was emitted, by the clock of the store that took it first; `None`: now.
    pub emitted_unix_ms: Option<i64>,
    /// How long until it is due.
    pub delay: Duration,
    /// How it is run.
    pub policy: Policy,
    /// Stored only where no other delivery has had this key lately.
    pub unique: Option<UniqueKey>,
    /// It waits for every delivery of this key that was stored before it.
    pub order: Option<Key>,
    /// The encoded event.
    pub payload: Payload,
}

/// A key that stands for several deliveries, for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UniqueKey {
    /// The handler's and the field's value.
    pub key: Key,
    /// How long the first delivery of the key stands for the others, from when it was stored.
    pub within: Duration,
}
