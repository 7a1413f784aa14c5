//! What is claimed, and what becomes of it.

use std::{sync::Arc, time::Duration};

use crate::{
    id::{DeliveryId, EventId, LeaseToken},
    origin::Origin,
    retry::Policy,
    terms::Priority,
};

use super::Payload;

/// What to claim.
#[derive(Debug, Clone)]
pub struct Claim {
    /// For each queue: its handlers, and how many deliveries there is room for.
    pub queues: Vec<ClaimQueue>,
    /// How long the lease is.
    pub lease: Duration,
}

/// One queue's part of a claim.
#[derive(Debug, Clone)]
pub struct ClaimQueue {
    /// The queue's name: nothing is claimed while it is paused.
    pub name: Arc<str>,
    /// Its handlers, those of higher priority first.
    pub handlers: Vec<ClaimHandler>,
    /// At most so many. Evenly from the handlers of one priority, and of a lower one only what a higher one leaves.
    pub wanted: usize,
}

/// One handler's part of a claim.
#[derive(Debug, Clone)]
pub struct ClaimHandler {
    /// The name under which its deliveries are stored: its id, or an alias.
    pub name: Arc<str>,
    /// The highest payload version that it reads.
    pub version: u32,
    /// Before which others it comes.
    pub priority: Priority,
    /// At most so many of its own.
    pub wanted: usize,
}

/// The answer to an exchange.
#[derive(Debug, Default)]
pub struct Exchanged {
    /// For each settlement, whether its lease was still held.
    pub held: Vec<bool>,
    /// What was claimed.
    pub claims: Claims,
    /// The generation of the catalogue, where a claim was asked for: when it is another than is known here, the catalogue is to
    /// be read. It is random and never comes again, so it tells a restored or emptied store as well as a changed one. It costs
    /// no statement of its own.
    pub generation: Option<u64>,
}

/// What was claimed.
#[derive(Debug, Default)]
pub struct Claims {
    /// What was leased, oldest first within a handler.
    pub deliveries: Vec<Claimed>,
    /// How long until another delivery of the asked handlers is due, as far as was known before this claim; zero when more
    /// is due than was wanted, `None` when there was no other.
    pub next_due: Option<Duration>,
}

/// A leased delivery.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The lease on it.
    pub lease: Lease,
    /// The event's id.
    pub event_id: EventId,
    /// The handler's id as it was stored: perhaps an alias of a linked one.
    pub handler: Arc<str>,
    /// Where the event comes from.
    pub origin: Origin,
    /// The payload's version.
    pub version: u32,
    /// When the event was emitted, by the store's clock.
    pub emitted_unix_ms: i64,
    /// Attempts that failed so far.
    pub failed: u32,
    /// A lease on it ended without a settlement, and it has not run to an end since.
    pub lost: bool,
    /// How often its lease ended so while it ran alone in its process.
    pub deaths: u32,
    /// The policy that was stored with it.
    pub policy: Policy,
    /// The encoded event.
    pub payload: Payload,
}

/// A time-limited claim on a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The store's own handle of its row.
    pub row: i64,
    /// The fence: it must match for every change.
    pub token: LeaseToken,
    /// Others may wait for its end, since it has an order key.
    pub ordered: bool,
}

/// What became of a leased delivery.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The lease that must still be held.
    pub lease: Lease,
    /// What became of it.
    pub outcome: Outcome,
}

/// The ways to settle.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Done: the delivery is deleted and counted.
    Completed,
    /// The attempt failed: due again after `delay`.
    Retry {
        /// How long until it is due.
        delay: Duration,
        /// What failed, in one line.
        error: String,
    },
    /// Not tried again until a person says so.
    Dead {
        /// How many attempts failed in all.
        failed: u32,
        /// What failed, in one line.
        error: String,
    },
    /// Not run, or stopped by a shutdown: due at once, no attempt is counted.
    Released,
}

/// What a claim takes of a queue, from the due deliveries of each of its handlers, oldest first: by priority, and evenly among
/// the handlers of one, so that a long backlog starves no neighbour. Answers also whether more is due than was taken.
#[cfg(any(feature = "sqlite", feature = "mysql"))]
pub(crate) fn pick<T: Copy>(queue: &ClaimQueue, due: &[Vec<T>]) -> (Vec<T>, bool) {
    let mut picked = Vec::new();
    let mut priorities: Vec<_> = queue.handlers.iter().map(|handler| handler.priority).collect();
    priorities.sort_unstable_by(|a, b| b.cmp(a));
    priorities.dedup();
    for priority in priorities {
        let of_it = queue.handlers.iter().zip(due).filter(|(handler, _)| handler.priority == priority);
        let lists: Vec<&[T]> = of_it.map(|(handler, due)| &due[..due.len().min(handler.wanted)]).collect();
        let longest = lists.iter().map(|list| list.len()).max().unwrap_or(0);
        let turns = (0..longest).flat_map(|turn| lists.iter().filter_map(move |list| list.get(turn).copied()));
        picked.extend(turns.take(queue.wanted - picked.len()));
    }
    // A handler that has all it may run at once says itself when it has room again.
    let takable: usize = queue.handlers.iter().zip(due).map(|(handler, due)| due.len().min(handler.wanted)).sum();
    let more = takable > picked.len()
        || queue
            .handlers
            .iter()
            .zip(due)
            .any(|(handler, due)| due.len() > handler.wanted && handler.wanted >= queue.wanted);
    (picked, more)
}
