//! The lease keeper: renews the leases of all running deliveries, on a thread of its own.
//!
//! A lease is held from its claim until its settlement. One statement per store renews all of them each third of a
//! lease, so two renewals may fail before one is lost. The thread has its own runtime: a handler that blocks the
//! application's runtime does not cost the others their leases. A lease counts as lost when the store says so, or when
//! its end has come by the worker's own monotonic clock, which counts from before the claim was sent: whichever is first.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    id::LeaseToken,
    store::{Lease, QueueStore},
    time::{self, Instant},
};

/// The leases that one worker holds.
#[derive(Default)]
pub(crate) struct Leases(Mutex<HashMap<(i64, LeaseToken), Held>>);

struct Held {
    lease: Lease,
    until: Instant,
    lost: watch::Sender<bool>,
}

impl Leases {
    /// Holds a claimed lease, and answers where its loss will be told.
    pub(crate) fn hold(&self, lease: Lease, until: Instant) -> watch::Receiver<bool> {
        let (lost, told) = watch::channel(false);
        self.lock().insert((lease.row, lease.token), Held { lease, until, lost });
        told
    }

    /// Lets a lease go, after its settlement or its loss.
    pub(crate) fn let_go(&self, lease: Lease) {
        self.lock().remove(&(lease.row, lease.token));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(i64, LeaseToken), Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Lease> {
        self.lock().values().map(|held| held.lease).collect()
    }

    fn renewed(&self, lease: Lease, until: Instant) {
        if let Some(held) = self.lock().get_mut(&(lease.row, lease.token)) {
            held.until = until;
        }
    }

    fn lose(&self, lease: Lease) {
        if let Some(held) = self.lock().get(&(lease.row, lease.token)) {
            held.lost.send_replace(true);
        }
    }

    /// Gives up what has ended by our own clock; answers the next end.
    fn expire(&self) {
        let now = time::now();
        for held in self.lock().values().filter(|held| held.until <= now) {
            held.lost.send_replace(true);
        }
    }
}

/// The thread that renews. It ends when its owner is dropped.
pub(crate) struct Keeper {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts renewing what `workers` hold, each third of `lease`.
    pub(crate) fn start(workers: Vec<(Arc<dyn QueueStore>, Arc<Leases>)>, lease: Duration) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = std::thread::Builder::new()
            .name("evented-leases".to_owned())
            .spawn(move || runtime.block_on(keep(workers, lease, stopped)))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        // Not joined: it may wait for a store, and has nothing left to say.
        drop(self.thread.take());
    }
}

async fn keep(workers: Vec<(Arc<dyn QueueStore>, Arc<Leases>)>, lease: Duration, mut stopped: watch::Receiver<bool>) {
    // Looks more often than it renews, so that a failed renewal is repeated and an ended lease is noticed soon.
    let mut look = time::tick_every((lease / 12).max(Duration::from_millis(1)));
    let mut renew_at = vec![time::now() + lease / 3; workers.len()];
    let mut failing = vec![false; workers.len()];
    loop {
        tokio::select! {
            _ = look.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        for (index, (store, leases)) in workers.iter().enumerate() {
            if time::now() >= renew_at[index] {
                let renewed = tokio::select! {
                    renewed = renew(&**store, leases, lease) => renewed,
                    _ = stopped.wait_for(|stop| *stop) => return,
                };
                match renewed {
                    Ok(()) => {
                        renew_at[index] = time::now() + lease / 3;
                        failing[index] = false;
                    }
                    Err(error) if !failing[index] => {
                        failing[index] = true;
                        tracing::warn!(error = %crate::error::in_one_line(&error), "leases could not be renewed; trying again");
                    }
                    Err(_) => {}
                }
            }
            leases.expire();
        }
    }
}

async fn renew(store: &dyn QueueStore, leases: &Leases, lease: Duration) -> Result<(), crate::error::StoreError> {
    let all = leases.all();
    if all.is_empty() {
        return Ok(());
    }
    // Counted from before the store is asked: the store's clock starts later, so ours ends first.
    let until = time::now() + lease;
    let held = store.extend(&all, lease).await?;
    for (lease, held) in all.into_iter().zip(held) {
        if held {
            leases.renewed(lease, until);
        } else {
            leases.lose(lease);
        }
    }
    Ok(())
}
