//! The turn: a claimed delivery waits for a slot, in which it runs.

use std::sync::{Arc, atomic::Ordering};

use tokio::sync::OwnedSemaphorePermit;

use super::Worker;

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
