//! Recovery: suspects, deliveries whose process died while it had them. They wait apart in the store, and this loop claims them, a few at a
//! time beside all other work, and one to be tried singly.
//!
//! A suspect has its place until it is settled, and no more are claimed than there are places: what runs next is no suspect of
//! what ran before it.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Notify, Semaphore};

use crate::{
    error::{StoreError, in_one_line},
    store::Suspects,
    time::{self, End, Instant},
};

use super::Worker;

/// So many suspects run at once beside other work.
const EXPOSED: usize = 8;

/// The places of suspects in one worker.
pub(super) struct Suspicion {
    exposed: Arc<Semaphore>,
    tried: Arc<Semaphore>,
    look: Notify,
    born: Instant,
}

impl Default for Suspicion {
    fn default() -> Self {
        let (exposed, tried) = (Arc::new(Semaphore::new(EXPOSED)), Arc::new(Semaphore::new(1)));
        Self { exposed, tried, look: Notify::new(), born: time::now() }
    }
}

impl Suspicion {
    /// There are new ones.
    pub(super) fn look(&self) {
        self.look.notify_one();
    }

    /// Something was settled: perhaps a suspect, whose place another may have.
    pub(super) fn settled(&self) {
        if self.exposed.available_permits() < EXPOSED || self.tried.available_permits() == 0 {
            self.look.notify_one();
        }
    }
}

impl Worker {
    /// Claims suspects until the worker stops.
    pub(crate) async fn clear_suspects(self: Arc<Self>) {
        let mut stopping = self.shared.stopping.clone();
        let lease = self.shared.lease;
        let mut wait = Duration::ZERO;
        loop {
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => break,
                () = self.suspicion.look.notified() => {}
                () = time::sleep(wait) => {}
            }
            // Those of others are found so, and one that has to wait until this process is older.
            wait = lease / 4;
            if !self.leases.is_registered() {
                wait = lease / 20;
                continue;
            }
            match self.claim_suspects().await {
                Ok(true) => {}
                // None waits: whoever makes one looks at once.
                Ok(false) => wait = lease / 2,
                Err(error) => {
                    tracing::debug!(error = %in_one_line(&error), store = %self.name,
                        "suspects could not be claimed; trying again");
                }
            }
        }
    }

    /// Claims as many as there are places for; answers whether others wait.
    async fn claim_suspects(self: &Arc<Self>) -> Result<bool, StoreError> {
        let Some(ended) = self.endings() else { return Ok(false) };
        let exposed = self.suspicion.exposed.available_permits();
        let trial = Arc::clone(&self.suspicion.tried).try_acquire_owned().ok();
        let asked = Suspects {
            queues: self.queues.all(),
            lease: self.shared.lease,
            session: self.leases.session(),
            exposed,
            tried: trial.is_some().then(|| self.suspicion.born.elapsed()),
        };
        let until = End::after(self.shared.lease);
        let claimed = self.store.suspects(asked).await?;
        for suspect in claimed.exposed {
            let place = Arc::clone(&self.suspicion.exposed).try_acquire_owned().ok();
            self.start(suspect, until, false, place, &ended);
        }
        if let Some(suspect) = claimed.tried {
            self.start(suspect, until, false, trial, &ended);
        }
        Ok(claimed.more)
    }
}
