//! The worker: claims deliveries of one store, runs their handlers, settles what became of them.
//!
//! A delivery goes from hand to hand, each in a room of its own:
//!
//! 1. `claiming` asks the store in one exchange to settle what has ended and to lease what is due, as far as there is room
//!    (`capacity`), and starts a task for each.
//! 2. `turn`: it waits for a slot.
//! 3. `run`: its event is decoded and its handler runs (`attempt`), until it ends, its time is up, its lease is lost or the worker
//!    stops.
//! 4. `verdict`: what that means for the delivery. Its end goes back to `claiming`.
//! 5. `settlement`: ends gather for the next exchange. Room in the queue is given back when it is settled: in flight is what
//!    is claimed and not yet settled (`in_flight`).
//!
//! Meanwhile `lease` renews what is held, on a thread of its own, and `recovery` claims suspects: deliveries whose process died while it
//! had them. While the loop has nothing to do, the relay claims for it, in the commit in which it stores deliveries beside the outbox:
//! they start one commit sooner.
//!
//! A crash at any point leaves the leases to end, and the deliveries to run again: nothing here holds what the store does not
//! know.
//!
//! To add an outcome: `Outcome` in store/claim.rs, `exchange` of each store, verdict.rs.

pub(crate) mod lease;
mod in_flight;
mod capacity;
mod attempt;
mod verdict;
mod settlement;
mod turn;
mod run;
mod recovery;
mod claiming;

use std::{
    sync::{
        Arc, Mutex as SyncMutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, mpsc, watch};

use crate::{
    error::in_one_line,
    instance::{Instance, catch},
    registry::registry,
    store::{Claim, ClaimQueue, Claimed, Outbox, Outcome, QueueStore, Store},
    time::End,
};

use self::{
    capacity::{Found, Queues, queue_of},
    in_flight::{Ended, InFlight},
    lease::Leases,
    recovery::Suspicion,
    turn::Waiting,
    verdict::judge,
};

/// What the workers of one process share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub instance: Arc<Instance>,
    pub lease: Duration,
    /// True: claim nothing more.
    pub stopping: watch::Receiver<bool>,
    /// True: grace is over; what still runs is dropped.
    pub aborting: watch::Receiver<bool>,
    /// The queues that this process works on; `None`: all.
    pub queues: Option<Arc<[String]>>,
}

impl Shared {
    fn works_on(&self, queue: &str) -> bool {
        self.queues.as_ref().is_none_or(|queues| queues.iter().any(|name| name == queue))
    }
}

/// The worker of one store.
pub(crate) struct Worker {
    shared: Shared,
    store: Arc<dyn QueueStore>,
    /// The store's name, for logs.
    name: String,
    /// The same store, where transactional handlers can run in it.
    outbox: Option<Outbox>,
    queues: Queues,
    leases: Arc<Leases>,
    /// There may be more to claim than was seen: a blocking function that had outlived its delivery gave its slot back, or
    /// the relay has left something.
    look_again: Notify,
    /// The catalogue is being read again.
    refreshing: AtomicBool,
    /// Whose it is to claim: the worker's, and the relay's while the worker has nothing to do.
    claiming: Mutex<()>,
    /// The places of suspects.
    suspicion: Suspicion,
    /// Where deliveries go that are over; none before and after the time in which they are claimed.
    endings: SyncMutex<Option<mpsc::UnboundedSender<Ended>>>,
}

impl Worker {
    /// `None` when the instance has no handler that this store can run.
    pub(crate) fn new(shared: Shared, store: &Store, outbox: Option<Outbox>, leases: Arc<Leases>) -> Option<Arc<Self>> {
        let runnable = runnable(&shared.instance).filter(|handler| shared.works_on(queue_of(*handler)));
        let queues = Queues::of(runnable);
        (!queues.is_empty()).then(|| {
            Arc::new(Self {
                shared,
                store: Arc::clone(&store.queue),
                name: store.about.name().to_owned(),
                outbox,
                queues,
                leases,
                look_again: Notify::new(),
                refreshing: AtomicBool::new(false),
                claiming: Mutex::default(),
                suspicion: Suspicion::default(),
                endings: SyncMutex::default(),
            })
        })
    }

    /// Works until the instance stops and all that was claimed is settled.
    pub(crate) async fn work(self: Arc<Self>) {
        self.claim_and_settle().await;
        // What it holds still when its leases end was interrupted.
        self.leases.leave();
        if let Err(error) = self.store.leave(self.leases.session()).await {
            tracing::debug!(error = %in_one_line(&error), store = %self.name,
                "the session could not be ended; the store forgets it later");
        }
    }

    fn claim(&self, queues: Vec<ClaimQueue>) -> Claim {
        let lease = self.shared.lease;
        Claim { queues, lease, session: self.leases.session(), lapsed: self.leases.lapsed() }
    }

    fn endings(&self) -> Option<mpsc::UnboundedSender<Ended>> {
        self.endings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take_endings(&self, ended: Option<mpsc::UnboundedSender<Ended>>) {
        *self.endings.lock().unwrap_or_else(PoisonError::into_inner) = ended;
    }

    fn start_all(self: &Arc<Self>, claimed: Vec<Claimed>, until: End, ended: &mpsc::UnboundedSender<Ended>) {
        // A claim that was long in coming has used up its leases' time: what is left could end in the middle.
        let late = until.left() < self.shared.lease / 2;
        if late && !claimed.is_empty() {
            self.queues.ask_for_fewer_than(claimed.len());
        }
        for claimed in claimed {
            self.start(claimed, until, late, None, ended);
        }
    }

    /// Starts a task for a claimed delivery, a suspect with its place among these. One that is `late`, or that there is no room for,
    /// is given back: rare, and no reason to stop.
    fn start(
        self: &Arc<Self>,
        claimed: Claimed,
        until: End,
        late: bool,
        suspect: Option<OwnedSemaphorePermit>,
        ended: &mpsc::UnboundedSender<Ended>,
    ) {
        let leased = self.leases.hold(claimed.lease, until);
        let found = self.queues.find(&claimed.handler).cloned();
        let room =
            found.as_ref().and_then(|found| Arc::clone(&self.queues.list[found.queue].room).try_acquire_owned().ok());
        let limit = found.as_ref().and_then(|found| found.limit.clone());
        let has_limit = limit.is_some();
        let of_limit = limit.and_then(|limit| limit.try_acquire_owned().ok());
        let has_room = !late && room.is_some() && (of_limit.is_some() || !has_limit);
        let name = Arc::clone(&claimed.handler);
        let lease = claimed.lease;
        let held = InFlight::new(&self.leases, lease, found.clone(), [room, of_limit, suspect]);
        let (Some(Found { handler, queue, .. }), true) = (found, has_room) else {
            let _gone = ended.send(Ended { lease, outcome: Some(Outcome::Released), name, held, once: false });
            return;
        };
        // Counted here and not in the task: the next claim may come before the task's first step.
        let waiting = Waiting::enter(self, queue);
        let worker = Arc::clone(self);
        let ended = ended.clone();
        tokio::spawn(async move {
            // A panic outside the handler itself, in the `Drop` or the `Display` of something of the application's, must
            // not leave a lease behind that is renewed for ever.
            let run = worker.run(handler, waiting, &claimed, leased);
            let running = catch(|| Box::pin(async { Ok(run.await) })).await;
            let outcome = running.unwrap_or_else(|panic| {
                let handler = &registry().handlers[handler];
                let policy = handler.stored.map_or(claimed.policy, |stored| stored.policy);
                Some(judge(handler, policy, &claimed, Err(panic)))
            });
            // The loop outlives every task: it ends when the last sender is gone, or when it gives up.
            let once = worker.outbox.is_none() && registry().handlers[handler].takes_tx();
            let _gone = ended.send(Ended { lease, outcome, name, held, once });
        });
    }

    /// The store has another catalogue than this process planned from: it was changed, or emptied, restored or replaced. It
    /// is read again, beside the work.
    fn look_at_generation(self: &Arc<Self>, generation: u64) {
        let plans = self.shared.instance.plans();
        let known = if self.outbox.is_some() { plans.outbox_generation } else { plans.queue_generation };
        if generation == known || self.refreshing.swap(true, Ordering::Relaxed) {
            return;
        }
        let worker = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = worker.shared.instance.refresh().await {
                tracing::debug!(error = %in_one_line(&error), store = %worker.name,
                    "the catalogue could not be read; trying again");
            }
            worker.refreshing.store(false, Ordering::Relaxed);
        });
    }
}

/// The handlers of an instance whose deliveries can run from a store.
pub(crate) fn runnable(instance: &Instance) -> impl Iterator<Item = usize> {
    instance.active_handlers().filter(|index| registry().handlers[*index].stored.is_some())
}
