//! The queues as one worker sees them: their handlers, and how many deliveries they have room for.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Semaphore;

use crate::{
    registry::{names_of, registry},
    store::{Claim, ClaimHandler, ClaimQueue},
    terms::Priority,
};

/// How many deliveries of one queue are in flight in one process.
const IN_FLIGHT: usize = 2_048;
/// How many of them run at once.
const RUNNING: usize = 64;
/// Claimed ahead is what can be started within so long, by what handlers took lately: nothing for a slow handler, a full
/// batch for one that is done at once. Far below a quarter of the shortest lease.
const AHEAD: Duration = Duration::from_millis(50);
/// How many deliveries one exchange settles, and how many of a queue it claims.
pub(super) const BATCH: usize = 1_024;

/// The queues of a worker.
pub(super) struct Queues {
    pub list: Vec<Queue>,
    /// How many deliveries of a queue one claim asks for at the most.
    most: AtomicUsize,
    /// What is behind each name under which a delivery may be stored.
    by_name: HashMap<Arc<str>, Found>,
}

/// The handler behind a name.
#[derive(Clone)]
pub(super) struct Found {
    pub handler: usize,
    pub queue: usize,
    /// Room for deliveries in flight, where the handler has a `concurrency` of its own; its names share it.
    pub limit: Option<Arc<Semaphore>>,
}

pub(super) struct Queue {
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
pub(super) struct Named {
    pub name: Arc<str>,
    pub handler: usize,
    pub version: u32,
    pub priority: Priority,
}

impl Queues {
    /// Those of handlers on stored routes.
    pub(super) fn of(handlers: impl Iterator<Item = usize>) -> Self {
        let mut list: BTreeMap<&str, Queue> = BTreeMap::new();
        for (name, handler) in names_of(handlers) {
            let linked = &registry().handlers[handler];
            let stored = linked.stored.expect("a worker has stored handlers only");
            let queue = list.entry(stored.queue).or_insert_with(|| Queue::new(stored.queue));
            let named = Named { name, handler, version: linked.version, priority: stored.terms.priority };
            queue.handlers.push(named);
        }
        let list: Vec<_> = list.into_values().map(Queue::sorted).collect();
        let mut limits: HashMap<usize, Option<Arc<Semaphore>>> = HashMap::new();
        let mut by_name = HashMap::new();
        for (at, queue) in list.iter().enumerate() {
            for Named { name, handler, .. } in &queue.handlers {
                let limit = limits.entry(*handler).or_insert_with(|| {
                    let terms = registry().handlers[*handler].stored.map(|stored| stored.terms);
                    let limit = terms.and_then(|terms| terms.concurrency)?;
                    Some(Arc::new(Semaphore::new(limit as usize)))
                });
                by_name.insert(Arc::clone(name), Found { handler: *handler, queue: at, limit: limit.clone() });
            }
        }
        Self { list, most: AtomicUsize::new(BATCH), by_name }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn find(&self, name: &str) -> Option<&Found> {
        self.by_name.get(name)
    }

    /// A claim was not answered in time, perhaps since it was too much for the network: the next asks for a quarter.
    pub(super) fn ask_for_fewer(&self, claim: &Claim) {
        self.ask_for_fewer_than(claim.queues.iter().map(|queue| queue.wanted).max().unwrap_or(BATCH));
    }

    /// The same where so many were answered so late that they were given back.
    pub(super) fn ask_for_fewer_than(&self, claimed: usize) {
        self.most.store((claimed / 4).max(1), Ordering::Relaxed);
    }

    /// One was: the next may ask for twice as much.
    pub(super) fn ask_for_more(&self) {
        let most = self.most.load(Ordering::Relaxed);
        if most < BATCH {
            self.most.store((most * 2).min(BATCH), Ordering::Relaxed);
        }
    }

    /// All handlers, as suspects of them are asked for.
    pub(super) fn all(&self) -> Vec<ClaimQueue> {
        let queue = |queue: &Queue| {
            let handler = |named: &Named| {
                let Named { version, priority, .. } = *named;
                ClaimHandler { name: Arc::clone(&named.name), version, priority, wanted: usize::MAX }
            };
            let handlers = queue.handlers.iter().map(handler).collect();
            ClaimQueue { name: Arc::clone(&queue.name), handlers, wanted: usize::MAX }
        };
        self.list.iter().map(queue).collect()
    }

    /// What there is room for, counting the room that these deliveries give back; `None` where there is none.
    pub(super) fn wanted<'f>(&self, ended: impl Iterator<Item = &'f Found>) -> Option<Vec<ClaimQueue>> {
        let mut freed = vec![0; self.list.len()];
        let mut freed_of_handler: HashMap<usize, usize> = HashMap::new();
        for found in ended {
            freed[found.queue] += 1;
            if found.limit.is_some() {
                *freed_of_handler.entry(found.handler).or_default() += 1;
            }
        }
        let queues = self.list.iter().zip(freed).filter_map(|(queue, freed)| {
            let wanted = queue.wanted(freed).min(self.most.load(Ordering::Relaxed));
            let handlers = queue.handlers.iter().filter_map(|named| {
                let limit = self.by_name[&named.name].limit.as_ref().map(|limit| {
                    limit.available_permits() + freed_of_handler.get(&named.handler).copied().unwrap_or(0)
                });
                let wanted = limit.unwrap_or(usize::MAX).min(wanted);
                let Named { version, priority, .. } = *named;
                (wanted > 0).then(|| ClaimHandler { name: Arc::clone(&named.name), version, priority, wanted })
            });
            let handlers: Vec<_> = handlers.collect();
            (!handlers.is_empty()).then(|| ClaimQueue { name: Arc::clone(&queue.name), handlers, wanted })
        });
        let queues: Vec<_> = queues.collect();
        (!queues.is_empty()).then_some(queues)
    }
}

/// The queue of a handler on a stored route.
pub(super) fn queue_of(handler: usize) -> &'static str {
    registry().handlers[handler].stored.expect("a worker has stored handlers only").queue
}

impl Queue {
    pub(super) fn new(name: &str) -> Self {
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
    pub(super) fn sorted(mut self) -> Self {
        self.handlers.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
        self
    }

    /// How many more it can take, when so many of those in flight are settled.
    pub(super) fn wanted(&self, freed: usize) -> usize {
        let per_slot = AHEAD.as_micros() / u128::from(self.run_micros.load(Ordering::Relaxed).max(1));
        let ahead = usize::try_from(per_slot).unwrap_or(IN_FLIGHT).saturating_mul(RUNNING);
        let startable = (self.slots.available_permits() + ahead).saturating_sub(self.waiting.load(Ordering::Relaxed));
        (self.room.available_permits() + freed).min(startable).min(BATCH)
    }

    pub(super) fn note_run(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let before = self.run_micros.load(Ordering::Relaxed);
        let now = if before == u64::MAX { took } else { before - before / 8 + took / 8 };
        // Two runs that end at once may forget one of them, which an average can bear.
        self.run_micros.store(now, Ordering::Relaxed);
    }
}
