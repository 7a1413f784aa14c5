//! A flag that is raised once, and can be waited for: one allocation, where a channel has several.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

/// Raised once; all clones are the same flag.
#[derive(Clone, Default)]
pub(crate) struct Flag(Arc<Inner>);

#[derive(Default)]
struct Inner {
    raised: AtomicBool,
    told: Notify,
}

impl Flag {
    pub(crate) fn raise(&self) {
        self.0.raised.store(true, Ordering::Release);
        self.0.told.notify_waiters();
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.0.raised.load(Ordering::Acquire)
    }

    /// Waits until it is raised; at once where it has been.
    pub(crate) async fn raised(&self) {
        // Most often it is, where a handler has begun: nothing is listened for then.
        if self.is_raised() {
            return;
        }
        let mut told = pin!(self.0.told.notified());
        // Listened for before it is looked at: a raise in between is not missed.
        told.as_mut().enable();
        if !self.is_raised() {
            told.await;
        }
    }
}
