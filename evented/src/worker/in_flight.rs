//! A claimed delivery in this process, until it is settled.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::store::{Lease, Outcome, Settlement};

use super::{capacity::Found, lease::Leases};

/// A delivery that is over, with what it occupied.
pub(super) struct Ended {
    pub lease: Lease,
    /// `None` when there is nothing to settle.
    pub outcome: Option<Outcome>,
    pub name: Arc<str>,
    pub held: InFlight,
    /// It ran in a transaction of another database than its store's.
    pub once: bool,
}

impl Ended {
    pub(super) fn settlement(&self) -> Option<Settlement> {
        self.outcome.clone().map(|outcome| Settlement { lease: self.lease, outcome })
    }
}

/// What a claimed delivery occupies until it is settled, or until there is nothing to settle: however it ends, its drop
/// lets the lease go and gives the room back.
pub(super) struct InFlight {
    leases: Arc<Leases>,
    lease: Lease,
    pub found: Option<Found>,
    /// Its room in the queue, in its handler's own limit, and among the suspects.
    _room: [Option<OwnedSemaphorePermit>; 3],
}

impl InFlight {
    pub(super) fn new(
        leases: &Arc<Leases>,
        lease: Lease,
        found: Option<Found>,
        room: [Option<OwnedSemaphorePermit>; 3],
    ) -> Self {
        Self { leases: Arc::clone(leases), lease, found, _room: room }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.leases.let_go(self.lease);
    }
}
