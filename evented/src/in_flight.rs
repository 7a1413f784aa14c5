//! A claimed delivery in this process, until it is settled.

use std::sync::Arc;

use tokio::sync::{OwnedRwLockWriteGuard, OwnedSemaphorePermit};

use crate::{
    capacity::Found,
    lease::Leases,
    store::{Lease, Outcome, Settlement},
};

/// The right to run with nothing beside it, kept until the delivery is settled: what ran alone and did well must not be taken for
/// what killed the process while the next one ran.
pub(crate) type Alone = Option<OwnedRwLockWriteGuard<()>>;

/// A delivery that is over, with what it occupied.
pub(crate) struct Ended {
    pub lease: Lease,
    /// `None` when there is nothing to settle.
    pub outcome: Option<Outcome>,
    pub name: Arc<str>,
    pub held: InFlight,
    /// It ran in a transaction of another database than its store's.
    pub once: bool,
    /// Nothing runs beside it until it is settled.
    pub _alone: Alone,
}

impl Ended {
    pub(crate) fn settlement(&self) -> Option<Settlement> {
        self.outcome.clone().map(|outcome| Settlement { lease: self.lease, outcome })
    }
}

/// What a claimed delivery occupies until it is settled, or until there is nothing to settle: however it ends, its drop
/// lets the lease go and gives the room back.
pub(crate) struct InFlight {
    leases: Arc<Leases>,
    lease: Lease,
    pub found: Option<Found>,
    /// Its room in the queue, and in its handler's own limit.
    _room: [Option<OwnedSemaphorePermit>; 2],
}

impl InFlight {
    pub(crate) fn new(
        leases: &Arc<Leases>,
        lease: Lease,
        found: Option<Found>,
        room: [Option<OwnedSemaphorePermit>; 2],
    ) -> Self {
        Self { leases: Arc::clone(leases), lease, found, _room: room }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.leases.let_go(self.lease);
    }
}
