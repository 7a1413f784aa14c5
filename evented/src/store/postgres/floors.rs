//! From where a claim reads the index.
//!
//! What was settled leaves dead entries there until a vacuum, and they lie where each claim begins to read: a backlog of a
//! million would be read past again and again. So a claim begins where the last one found something, with a margin for
//! transactions that came to their end late. Each second, and before the answer that nothing is due, one reads from the
//! beginning, so that what was due long ago is found: what a foreign transaction held, a claim that a crash undid. That one
//! also looks when the next will be due, for which it reads past the entries of leases that were settled before their end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    store::{Claim, ClaimHandler},
    time::{self, Instant},
};

use super::claim::Answer;

/// How long a floor is good for.
pub(super) const GOOD_FOR: Duration = Duration::from_secs(1);
/// Reading from the beginning is cheap while it takes less; when it takes longer, a tenth of the time is spent on it at the
/// most.
const CHEAP: Duration = Duration::from_millis(20);
/// How long a transaction may take from when it reads the clock until its deliveries are seen.
const MARGIN_MS: i64 = 2_000;

#[derive(Default)]
pub(super) struct Floors(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// By handler, and by the version up to which it reads: since when its oldest delivery was due, less the margin.
    floors: HashMap<(Arc<str>, u32), i64>,
    /// The generation of the catalogue meanwhile: with another, the store may have been restored to what it was long ago.
    generation: Option<u64>,
    /// When the index was read from its beginning, and how long that took.
    read: Option<(Instant, Duration)>,
}

impl Floors {
    /// The floors of a claim, `None` where it is to read from the beginning.
    pub(super) fn of(&self, claim: &Claim) -> Option<Vec<i64>> {
        let known = self.lock();
        known.read.filter(|(at, _)| at.elapsed() < GOOD_FOR)?;
        Some(handlers(claim).map(|handler| known.floors.get(&key(handler)).copied().unwrap_or(0)).collect())
    }

    /// Whether the index may be read from its beginning before the answer that nothing is due.
    pub(super) fn may_read_on(&self) -> bool {
        self.lock().read.is_none_or(|(at, took)| took < CHEAP || at.elapsed() >= took * 10)
    }

    /// Takes note of where a claim has found each handler's oldest delivery; and how long it took, where it has read from
    /// the beginning.
    pub(super) fn learn(&self, claim: &Claim, answer: &Answer, took: Option<Duration>) {
        let mut known = self.lock();
        if answer.generation.is_some() && known.generation != answer.generation {
            // The first has begun to learn.
            let first = known.generation.is_none();
            *known = Known { generation: answer.generation, ..Known::default() };
            if !first {
                return;
            }
        }
        if let Some(took) = took {
            // The first has opened its connection, which says nothing of the next.
            let took = if known.read.is_some() { took } else { Duration::ZERO };
            known.read = Some((time::now(), took));
        }
        for (handler, first) in handlers(claim).zip(&answer.firsts) {
            match first {
                Some(first) => known.floors.insert(key(handler), first - MARGIN_MS),
                None => known.floors.remove(&key(handler)),
            };
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handlers of a claim, in the order in which it is sent.
pub(super) fn handlers(claim: &Claim) -> impl Iterator<Item = &ClaimHandler> {
    claim.queues.iter().flat_map(|queue| &queue.handlers)
}

fn key(handler: &ClaimHandler) -> (Arc<str>, u32) {
    (Arc::clone(&handler.name), handler.version)
}
