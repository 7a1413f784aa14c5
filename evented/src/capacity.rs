//! A queue as one worker sees it: its handlers, and how many deliveries it has room for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Semaphore;

use crate::terms::Priority;

/// How many deliveries of one queue are in flight in one process.
const IN_FLIGHT: usize = 2_048;
/// How many of them run at once.
const RUNNING: usize = 64;
/// Claimed ahead is what can be started within so long, by what handlers took lately: nothing for a slow handler, a full
/// batch for one that is done at once. Far below a quarter of the shortest lease.
const AHEAD: Duration = Duration::from_millis(50);
/// How many deliveries one exchange settles, and how many of a queue it claims.
pub(crate) const BATCH: usize = 1_024;
/// The handler behind a name.
#[derive(Clone)]
pub(crate) struct Found {
    pub handler: usize,
    pub queue: usize,
    /// Room for deliveries in flight, where the handler has a `concurrency` of its own; its names share it.
    pub limit: Option<Arc<Semaphore>>,
}

pub(crate) struct Queue {
    pub name: Arc<str>,
    /// The names under which its handlers' deliveries are stored, those of higher priority first.
    pub handlers: Vec<Named>,
    /// Room for claimed deliveries that are not settled yet.
    pub room: Arc<Semaphore>,
    /// Slots for those that run. A blocking function keeps its slot until it returns, also after its time is up.
    pub slots: Arc<Semaphore>,
    /// How many wait for a slot.
    pub waiting: AtomicUsize,
    /// What a run took lately, in microseconds: an average that forgets.
    pub run_micros: AtomicU64,
}

/// A name under which a handler's deliveries are stored.
pub(crate) struct Named {
    pub name: Arc<str>,
    pub handler: usize,
    pub version: u32,
    pub priority: Priority,
}

impl Queue {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            handlers: Vec::new(),
            room: Arc::new(Semaphore::new(IN_FLIGHT)),
            slots: Arc::new(Semaphore::new(RUNNING)),
            waiting: AtomicUsize::new(0),
            // Nothing is claimed ahead before it is known how fast it goes.
            run_micros: AtomicU64::new(u64::MAX),
        }
    }

    /// With its handlers by priority, and by name within one.
    pub(crate) fn sorted(mut self) -> Self {
        self.handlers.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
        self
    }

    /// How many more it can take, when so many of those in flight are settled.
    pub(crate) fn wanted(&self, freed: usize) -> usize {
        let per_slot = AHEAD.as_micros() / u128::from(self.run_micros.load(Ordering::Relaxed).max(1));
        let ahead = usize::try_from(per_slot).unwrap_or(IN_FLIGHT).saturating_mul(RUNNING);
        let startable = (self.slots.available_permits() + ahead).saturating_sub(self.waiting.load(Ordering::Relaxed));
        (self.room.available_permits() + freed).min(startable).min(BATCH)
    }

    pub(crate) fn note_run(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let before = self.run_micros.load(Ordering::Relaxed);
        let now = if before == u64::MAX { took } else { before - before / 8 + took / 8 };
        // Two runs that end at once may forget one of them, which an average can bear.
        self.run_micros.store(now, Ordering::Relaxed);
    }
}
