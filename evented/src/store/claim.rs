//! What is claimed, and what becomes of it.

use std::{sync::Arc, time::Duration};

use crate::{
    id::{DeliveryId, EventId, LeaseToken, SessionId},
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
    /// Whose the leases are.
    pub session: SessionId,
    /// What becomes of deliveries whose lease has ended.
    pub lapsed: Lapsed,
}

/// What a claim does with deliveries whose lease has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lapsed {
    /// It takes them.
    Take,
    /// It leaves them as they are, since the worker could not renew its own leases lately: those who held them may have lived
    /// through the same, and give them back.
    Leave,
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
    /// Whether deliveries of the asked handlers became [suspects](super::QueueStore::suspects) with this claim.
    pub suspects: bool,
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
    /// What is held against it.
    pub blame: Blame,
    /// The policy that was stored with it.
    pub policy: Policy,
    /// The encoded event.
    pub payload: Payload,
}

/// What is held against a delivery: sessions that died while they had it, since an attempt of it was settled last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Blame {
    /// How many they were.
    pub deaths: u32,
    /// How many of them died of nothing else that was known: while it was tried singly, and all that died with it was settled
    /// afterwards without another death.
    pub charges: u32,
}

/// Which suspects to claim.
#[derive(Debug, Clone)]
pub struct Suspects {
    /// For each queue its handlers; how many are wanted is said below.
    pub queues: Vec<ClaimQueue>,
    /// How long the lease is.
    pub lease: Duration,
    /// Whose the leases are.
    pub session: SessionId,
    /// At most so many that are exposed: that run beside normal work.
    pub exposed: usize,
    /// One that is tried singly, by a session that has lived so long; `None`: none.
    pub tried: Option<Duration>,
}

/// The suspects that were claimed.
#[derive(Debug, Default)]
pub struct Suspected {
    /// Those that run beside normal work.
    pub exposed: Vec<Claimed>,
    /// The one that is tried.
    pub tried: Option<Claimed>,
    /// Whether others of these handlers wait, now or until something else is settled.
    pub more: bool,
}

/// At so many deaths a delivery is exposed no more, and tried singly.
pub const TRIED_FROM: u32 = 2;

/// At so many charges a delivery is a dead letter: it is claimed for that alone.
pub const CHARGES_MAX: u32 = 3;

/// How long a session must have lived that tries a delivery against which so many charges are held: one, two, four leases. A
/// process that is killed each few seconds from outside charges nobody. What is not run any more need not wait.
#[must_use]
pub fn lived_for_trial(lease: Duration, charges: u32) -> Duration {
    if charges >= CHARGES_MAX {
        return Duration::ZERO;
    }
    lease.saturating_mul(1_u32.checked_shl(charges).unwrap_or(u32::MAX))
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
    /// Not run, or interrupted by a shutdown or by the loss of its lease: due at once, no attempt is counted. What is held
    /// against it stays.
    Released,
}

/// What a claim takes of a queue, from the due deliveries of each of its handlers, oldest first: by priority, and evenly among
/// the handlers of one, so that a long backlog starves no neighbour. Answers also whether more is due than was taken.
///
/// `due` has a list for each of the queue's handlers, in their order: all that is due of it, or one more than the queue wants.
#[must_use]
pub fn pick<T: Copy>(queue: &ClaimQueue, due: &[Vec<T>]) -> (Vec<T>, bool) {
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
