//! On what terms a handler's deliveries are taken: before which others, how many at once, which of them count as one, and
//! which wait for each other.

use std::{fmt, time::Duration};

use crate::retry::literal;

/// Which of a queue's deliveries are claimed first. A worker claims what is of lower priority only while nothing of a
/// higher one is due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// `priority = "low"`: after all others of the queue.
    Low,
    /// What is not said otherwise.
    #[default]
    Normal,
    /// `priority = "high"`: before all others of the queue.
    High,
}

impl Priority {
    /// As the attribute says it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

/// `unique(key = "order_id", within = "10m")`: of several events with the same value in the field `key`, the handler gets
/// the first; the others of the time `within` after that are not stored for it, whatever became of the first. An event whose
/// field is null or left out is not unique.
///
/// The value is read from the stored JSON and compared as it is written there: a number of any size is its digits. So the
/// field must be there under its own name or as `rename_all` writes it; [`run()`](crate::run) refuses a key that no payload
/// has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unique {
    /// The event's field.
    pub key: &'static str,
    /// How long the first stands for the others, from when it was stored.
    pub within: Duration,
}

/// The terms of one handler. Priority and concurrency are those of the worker that claims; keys are looked at when a
/// delivery is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Before which others of its queue it is claimed.
    pub priority: Priority,
    /// How many of its deliveries run at once in one process; `None`: as many as the queue has slots.
    pub concurrency: Option<u32>,
    /// Which of its deliveries count as one.
    pub unique: Option<Unique>,
    /// `ordered_by = "customer_id"`: deliveries of events with the same value in this field run one after the other, in the
    /// order in which they were stored, across retries, delays and workers. A delivery that waits for its retry holds up those
    /// behind it; a dead letter does not. An event whose field is null or left out waits for nobody. The value is read as for
    /// [`Unique`].
    pub ordered_by: Option<&'static str>,
}

impl Terms {
    /// Normal priority, no limit of its own, neither unique nor ordered.
    pub const DEFAULT: Self = Self { priority: Priority::Normal, concurrency: None, unique: None, ordered_by: None };

    /// `priority = ..` in the attribute.
    #[must_use]
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// `concurrency = ..` in the attribute.
    #[must_use]
    pub const fn concurrency(mut self, concurrency: u32) -> Self {
        self.concurrency = Some(concurrency);
        self
    }

    /// `unique(key = .., within = ..)` in the attribute.
    #[must_use]
    pub const fn unique(mut self, key: &'static str, within: Duration) -> Self {
        self.unique = Some(Unique { key, within });
        self
    }

    /// `ordered_by = ..` in the attribute.
    #[must_use]
    pub const fn ordered_by(mut self, key: &'static str) -> Self {
        self.ordered_by = Some(key);
        self
    }
}

/// As the attribute says it, and only what is not the default:
/// `priority = "high", unique(key = "order_id", within = "10m")`.
impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { priority, concurrency, unique, ordered_by } = *self;
        let options = [
            (priority != Priority::Normal).then(|| format!("priority = {:?}", priority.name())),
            concurrency.map(|concurrency| format!("concurrency = {concurrency}")),
            unique.map(|Unique { key, within }| format!("unique(key = {key:?}, within = {:?})", literal(within))),
            ordered_by.map(|key| format!("ordered_by = {key:?}")),
        ];
        f.write_str(&options.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}
