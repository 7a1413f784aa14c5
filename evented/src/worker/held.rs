//! What is held on the way of a delivery through a worker: room, and a slot.

use std::sync::{Arc, atomic::Ordering};

use tokio::sync::{MutexGuard, OwnedSemaphorePermit, mpsc};

use crate::{
    in_flight::Ended,
    store::{Claim, Claims},
    time::End,
};

use super::{SOON, Worker};

/// Room that is kept while the relay claims for it.
pub(crate) struct Offer<'w> {
    pub(super) worker: &'w Arc<Worker>,
    pub(super) _claiming: MutexGuard<'w, ()>,
    pub(super) ended: mpsc::UnboundedSender<Ended>,
    pub(super) until: End,
    pub claim: Claim,
}

impl Offer<'_> {
    /// Starts what was claimed.
    pub(crate) fn start(self, claims: Claims) {
        if claims.suspects {
            self.worker.suspects.look();
        }
        self.worker.start_all(claims.deliveries, self.until, &self.ended);
        if claims.next_due.is_some_and(|next| next <= SOON) {
            self.worker.look_again.notify_one();
        }
    }
}

/// One of those that wait for a slot.
pub(super) struct Waiting {
    pub worker: Arc<Worker>,
    pub queue: usize,
}

impl Waiting {
    pub fn enter(worker: &Arc<Worker>, queue: usize) -> Self {
        worker.queues.list[queue].waiting.fetch_add(1, Ordering::Relaxed);
        Self { worker: Arc::clone(worker), queue }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.worker.queues.list[self.queue].waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The slot of a blocking function, held by the function itself: given back when it returns.
pub(super) struct BlockingSlot {
    pub slot: Option<OwnedSemaphorePermit>,
    pub worker: Arc<Worker>,
    pub handler: usize,
}

impl Drop for BlockingSlot {
    fn drop(&mut self) {
        drop(self.slot.take());
        self.worker.shared.instance.blocking.leave(self.handler);
        self.worker.look_again.notify_one();
    }
}
