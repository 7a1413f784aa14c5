//! The worker: claims deliveries of one store, runs their handlers, settles what became of them.
//!
//! A delivery goes through these hands:
//!
//! 1. `claim_until_stopped` leases what is due, as far as its queue has room, and starts a task for each.
//! 2. `run` runs the handler in that task, until it ends, its time is up, its lease is lost or the worker stops.
//! 3. `settle_until_closed` collects what ended and settles it in batches: while one batch is being committed, the next
//!    gathers. Room in the queue is given back only then: "in flight" is claimed and not yet settled.
//!
//! The lease keeper (lease.rs) renews from the claim to the settlement. A crash at any point leaves the lease to end,
//! and the delivery to run again: nothing here holds what the store does not know.
//!
//! To add an outcome: `Outcome` in store.rs, `settle` of each store, `judge` here.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, OwnedSemaphorePermit, RwLock, Semaphore, mpsc, watch};

use crate::{
    attempt::{Interrupt, Interrupts, run_async, run_blocking, run_in_tx},
    delivery::{Delivery, Starting},
    error::{HandlerResult, Retry, in_one_line, retry_of},
    event::PAYLOAD_VERSION,
    handler::StoredCall,
    instance::{Instance, SCOPE, Scope},
    lease::Leases,
    registry::{Linked, names_of, registry},
    retry::Policy,
    store::{Claim, ClaimQueue, Claimed, OutboxStore, Outcome, QueueStore, Settlement, TxEnd},
    time::{self, Instant},
    trouble::Trouble,
};

/// How many deliveries of one queue are in flight in one process.
const IN_FLIGHT: usize = 512;
/// How many of them run at once.
const RUNNING: usize = 64;
/// Claimed ahead is what can be started within so long, by what handlers took lately: nothing for a slow handler, a full
/// batch for one that is done at once. Far below a quarter of the shortest lease.
const AHEAD: Duration = Duration::from_millis(50);
/// How many settlements go into one write.
const SETTLE_MAX: usize = 500;
/// How long a worker waits without looking, though nothing seems to have changed.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// How long a delivery waits whose transaction could not be begun or committed.
const TX_TROUBLE: Duration = Duration::from_secs(1);
/// A delivery whose worker died so often while it ran nothing else is a dead letter.
const DEATHS_MAX: u32 = 3;

/// What the workers of one process share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub instance: Arc<Instance>,
    pub lease: Duration,
    /// True: claim nothing more.
    pub stopping: watch::Receiver<bool>,
    /// True: grace is over; what still runs is dropped.
    pub aborting: watch::Receiver<bool>,
    /// Read-locked by each run, write-locked by one that must run alone in its process.
    pub alone: Arc<RwLock<()>>,
}

/// The worker of one store.
pub(crate) struct Worker {
    shared: Shared,
    store: Arc<dyn QueueStore>,
    /// The same store, where transactional handlers can run in it.
    outbox: Option<Arc<dyn OutboxStore>>,
    queues: Vec<Queue>,
    /// The handler behind each name under which a delivery may be stored, and its queue.
    by_name: HashMap<Arc<str>, (usize, usize)>,
    leases: Arc<Leases>,
    /// Room was given back.
    freed: Notify,
}

struct Queue {
    handlers: Arc<[(Arc<str>, u32)]>,
    /// Room for claimed deliveries that are not settled yet.
    room: Arc<Semaphore>,
    /// Slots for those that run. A blocking function keeps its slot until it returns, also after its time is up.
    slots: Arc<Semaphore>,
    /// How many wait for a slot.
    waiting: AtomicUsize,
    /// What a run took lately, in microseconds: an average that forgets.
    run_micros: AtomicU64,
}

/// What a claim is followed by.
enum Next {
    /// Another claim: there may be more.
    Now,
    /// A change in the store, or the time when something is due.
    Change(Duration),
    /// Room in a queue.
    Room,
    /// The store could not be reached.
    Retry(Duration),
}

/// A delivery that is over, with what it occupied.
struct Ended {
    settlement: Settlement,
    handler: Arc<str>,
    room: OwnedSemaphorePermit,
}

impl Worker {
    /// `None` when the instance has no handler that this store can run.
    pub(crate) fn new(
        shared: Shared,
        store: Arc<dyn QueueStore>,
        outbox: Option<Arc<dyn OutboxStore>>,
        leases: Arc<Leases>,
    ) -> Option<Arc<Self>> {
        let runnable = shared.instance.active_handlers().filter(|index| {
            let handler = &registry().handlers[*index];
            handler.stored.is_some() && (outbox.is_some() || !handler.takes_tx())
        });
        let named: Vec<_> =
            names_of(runnable).into_iter().map(|(name, handler)| (name, handler, queue_of(handler))).collect();
        let queue_names: Vec<&str> =
            named.iter().map(|(.., queue)| *queue).collect::<BTreeSet<_>>().into_iter().collect();
        let queue = |wanted: &&str| {
            let handlers = named.iter().filter(|(.., queue)| queue == wanted);
            let handlers = handlers.map(|(name, ..)| (Arc::clone(name), PAYLOAD_VERSION)).collect();
            Queue::new(handlers)
        };
        let queues: Vec<_> = queue_names.iter().map(queue).collect();
        let at = |queue| queue_names.binary_search(&queue).expect("every handler's queue is among them");
        let by_name = named.iter().map(|(name, handler, queue)| (Arc::clone(name), (*handler, at(*queue)))).collect();
        (!queues.is_empty())
            .then(|| Arc::new(Self { shared, store, outbox, queues, by_name, leases, freed: Notify::new() }))
    }

    /// Works until the instance stops and all that was claimed is settled.
    pub(crate) async fn work(self: Arc<Self>) {
        let (ended, endings) = mpsc::unbounded_channel();
        let settler = tokio::spawn(Arc::clone(&self).settle_until_closed(endings));
        self.claim_until_stopped(ended).await;
        // The settler ends when the last running delivery has.
        if let Err(error) = settler.await {
            tracing::error!(%error, "the worker's settler ended early; its leases will end by themselves");
        }
    }

    async fn claim_until_stopped(self: Arc<Self>, ended: mpsc::UnboundedSender<Ended>) {
        let mut stopping = self.shared.stopping.clone();
        let mut trouble = Trouble::default();
        let mut mark = 0;
        while !*stopping.borrow() {
            // Listened for before the room is counted: room that comes free in between ends the wait.
            let freed = self.freed.notified();
            let next = self.claim(&ended, &mut trouble).await;
            let in_trouble = matches!(next, Next::Retry(_));
            let waited = async {
                match next {
                    Next::Now => {}
                    Next::Change(most) => mark = self.store.wait(mark, most).await,
                    Next::Room => std::future::pending().await,
                    Next::Retry(wait) => time::sleep(wait).await,
                }
            };
            tokio::select! {
                () = waited => {}
                () = freed, if !in_trouble => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        }
    }

    /// Claims what there is room for and starts it; answers what to wait for then.
    async fn claim(self: &Arc<Self>, ended: &mpsc::UnboundedSender<Ended>, trouble: &mut Trouble) -> Next {
        let queues: Vec<_> = self.queues.iter().filter_map(Queue::wanted).collect();
        if queues.is_empty() {
            return Next::Room;
        }
        // Counted from before the store is asked, so that our end of the lease comes before the store's.
        let until = time::now() + self.shared.lease;
        match self.store.claim(Claim { queues, lease: self.shared.lease }).await {
            Ok(claims) => {
                trouble.over("claiming");
                if claims.deliveries.is_empty() {
                    return Next::Change(claims.next_due.map_or(LOOK_MAX, |next| next.min(LOOK_MAX)));
                }
                for claimed in claims.deliveries {
                    self.start(claimed, until, ended);
                }
                Next::Now
            }
            Err(error) => Next::Retry(trouble.note("claiming", &error)),
        }
    }

    /// Starts a task for a claimed delivery. Room is there: no more was claimed than there was.
    fn start(self: &Arc<Self>, claimed: Claimed, until: Instant, ended: &mpsc::UnboundedSender<Ended>) {
        let (handler, queue) = self.by_name[&claimed.handler];
        let room = Arc::clone(&self.queues[queue].room);
        let room = room.try_acquire_owned().expect("no more was claimed than there was room for");
        let lost = self.leases.hold(claimed.lease, until);
        let worker = Arc::clone(self);
        let ended = ended.clone();
        tokio::spawn(async move {
            let lease = claimed.lease;
            let name = Arc::clone(&claimed.handler);
            if let Some(outcome) = worker.run(handler, queue, claimed, lost).await {
                let settlement = Settlement { lease, outcome };
                // The settler outlives every task: it ends when the last sender is gone.
                let _gone = ended.send(Ended { settlement, handler: name, room });
            } else {
                worker.leases.let_go(lease);
                drop(room);
                worker.freed.notify_waiters();
            }
        });
    }

    /// Runs one delivery; `None` when there is nothing to settle: its lease was lost, or it settled itself.
    async fn run(
        &self,
        index: usize,
        queue: usize,
        claimed: Claimed,
        mut lost: watch::Receiver<bool>,
    ) -> Option<Outcome> {
        let queue = &self.queues[queue];
        let handler = &registry().handlers[index];
        let stored = handler.stored.expect("a worker claims stored handlers only");
        let policy = stored.policy;
        if claimed.deaths >= DEATHS_MAX {
            let error = format!("its worker died {DEATHS_MAX} times while it ran this delivery alone");
            return Some(judge_dead(handler, &claimed, claimed.failed, error));
        }
        let event = match (stored.decode)(&claimed.payload) {
            Ok(event) => event,
            Err(error) => {
                let error = format!("the payload could not be decoded: {}", in_one_line(&*error));
                return Some(judge_dead(handler, &claimed, claimed.failed, error));
            }
        };
        let mut stopping = self.shared.stopping.clone();
        let turn = async {
            let slot = Arc::clone(&queue.slots).acquire_owned().await.expect("slots are never closed");
            // A delivery that outlived a lease may be what killed its worker: it runs with nothing beside it.
            if claimed.lost {
                (slot, None, Some(self.shared.alone.write().await))
            } else {
                (slot, Some(self.shared.alone.read().await), None)
            }
        };
        queue.waiting.fetch_add(1, Ordering::Relaxed);
        let turn = tokio::select! {
            turn = turn => Ok(turn),
            _ = lost.wait_for(|lost| *lost) => Err(note_lost(handler, &claimed)),
            // What has not been started when the worker stops is given back at once.
            _ = stopping.wait_for(|stop| *stop) => Err(Some(Outcome::Released)),
        };
        queue.waiting.fetch_sub(1, Ordering::Relaxed);
        let (slot, _beside, _alone) = match turn {
            Ok(turn) => turn,
            Err(refused) => return refused,
        };
        let began = time::now();
        let (delivery, cancel) = Delivery::start(Starting {
            id: claimed.lease.delivery,
            event_id: claimed.event_id,
            correlation: claimed.correlation,
            attempt: claimed.failed + 1,
            attempts_max: policy.attempts_max,
            emitted_unix_ms: claimed.emitted_unix_ms,
            timeout: policy.timeout,
        });
        let scope = Scope {
            instance: Arc::clone(&self.shared.instance),
            correlation: Some(claimed.correlation),
            in_tx: handler.takes_tx(),
        };
        let interrupts = Interrupts { timeout: policy.timeout, lost, aborting: self.shared.aborting.clone() };
        let ended = match (stored.call, &self.outbox) {
            (StoredCall::Async(call), Some(outbox)) if handler.takes_tx() => {
                match run_in_tx(&**outbox, claimed.lease, call, event, delivery, scope, interrupts).await {
                    Ok(TxEnd::Committed) => return None,
                    Ok(TxEnd::Lost) => return note_lost(handler, &claimed),
                    Ok(TxEnd::Failed(error)) => Err(error),
                    Err(error) => {
                        // Not the handler's fault, so no attempt is counted. If the commit went through after all, the
                        // release comes late and changes nothing.
                        tracing::warn!(handler = %handler.id, delivery = %claimed.lease.delivery,
                            error = %in_one_line(&error), "a handler's transaction could not be run; it will be again");
                        time::sleep(TX_TROUBLE).await;
                        return Some(Outcome::Released);
                    }
                }
            }
            (StoredCall::Async(call), _) => {
                let running = run_async(call, event, delivery, scope.instance.clone(), None);
                SCOPE.scope(scope, interrupts.or(running)).await
            }
            (StoredCall::Blocking(call), _) => interrupts.or(run_blocking(call, event, delivery, scope, slot)).await,
        };
        // Whatever still runs on the blocking pool can see that its time is over.
        cancel.send_replace(true);
        queue.note_run(began.elapsed());
        if matches!(stored.call, StoredCall::Blocking(_)) && is_stopped(&ended) {
            // The function goes on until the process ends, so the delivery is not given back: its lease ends by itself.
            return None;
        }
        Self::judge(handler, policy, &claimed, ended)
    }

    /// What an attempt's end means for its delivery.
    fn judge(handler: &Linked, policy: Policy, claimed: &Claimed, ended: HandlerResult) -> Option<Outcome> {
        let Err(error) = ended else { return Some(Outcome::Completed) };
        match error.downcast_ref::<Interrupt>() {
            Some(Interrupt::Lost) => return note_lost(handler, claimed),
            Some(Interrupt::Stopped) => return Some(Outcome::Released),
            Some(Interrupt::TimedOut(_)) | None => {}
        }
        let failed = claimed.failed + 1;
        let text = in_one_line(&*error);
        let delay = match retry_of(&*error) {
            Retry::Never => return Some(judge_dead(handler, claimed, failed, text)),
            _ if failed >= policy.attempts_max => return Some(judge_dead(handler, claimed, failed, text)),
            Retry::After(delay) => delay,
            Retry::WithBackoff => policy.backoff.delay(failed),
        };
        tracing::warn!(handler = %handler.id, delivery = %claimed.lease.delivery, attempt = failed,
            attempts_max = policy.attempts_max, retry_in = ?delay, error = %text, "a delivery failed and will be tried again");
        Some(Outcome::Retry { delay, error: text })
    }

    async fn settle_until_closed(self: Arc<Self>, mut endings: mpsc::UnboundedReceiver<Ended>) {
        let mut batch = Vec::new();
        while endings.recv_many(&mut batch, SETTLE_MAX).await > 0 {
            let settlements: Arc<[_]> = batch.iter().map(|ended| ended.settlement.clone()).collect();
            let held = self.settle(settlements).await;
            for (index, ended) in batch.drain(..).enumerate() {
                self.leases.let_go(ended.settlement.lease);
                if held.as_ref().is_some_and(|held| !held[index]) {
                    tracing::warn!(handler = %ended.handler, delivery = %ended.settlement.lease.delivery,
                        "a delivery was settled after its lease was lost; the settlement changed nothing");
                }
                drop(ended.room);
            }
            self.freed.notify_waiters();
        }
    }

    /// Settles, for as long as it takes: the leases are renewed meanwhile. `None` when a stopping worker gave up, and
    /// leaves the leases to end.
    async fn settle(&self, settlements: Arc<[Settlement]>) -> Option<Vec<bool>> {
        let mut trouble = Trouble::default();
        let mut aborting = self.shared.aborting.clone();
        loop {
            match self.store.settle(Arc::clone(&settlements)).await {
                Ok(held) => {
                    trouble.over("settling");
                    return Some(held);
                }
                Err(error) => {
                    let wait = trouble.note("settling", &error);
                    if *aborting.borrow() {
                        return None;
                    }
                    tokio::select! {
                        () = time::sleep(wait) => {}
                        _ = aborting.wait_for(|abort| *abort) => {}
                    }
                }
            }
        }
    }
}

impl Queue {
    fn new(handlers: Arc<[(Arc<str>, u32)]>) -> Self {
        Self {
            handlers,
            room: Arc::new(Semaphore::new(IN_FLIGHT)),
            slots: Arc::new(Semaphore::new(RUNNING)),
            waiting: AtomicUsize::new(0),
            // Nothing is claimed ahead before it is known how fast it goes.
            run_micros: AtomicU64::new(u64::MAX),
        }
    }

    /// This queue's part of a claim; `None` while it is full.
    fn wanted(&self) -> Option<ClaimQueue> {
        let per_slot = AHEAD.as_micros() / u128::from(self.run_micros.load(Ordering::Relaxed).max(1));
        let ahead = usize::try_from(per_slot).unwrap_or(IN_FLIGHT).saturating_mul(RUNNING);
        let startable = (self.slots.available_permits() + ahead).saturating_sub(self.waiting.load(Ordering::Relaxed));
        let wanted = self.room.available_permits().min(startable);
        (wanted > 0).then(|| ClaimQueue { handlers: Arc::clone(&self.handlers), wanted })
    }

    fn note_run(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let before = self.run_micros.load(Ordering::Relaxed);
        let now = if before == u64::MAX { took } else { before - before / 8 + took / 8 };
        // Two runs that end at once may forget one of them, which an average can bear.
        self.run_micros.store(now, Ordering::Relaxed);
    }
}

/// The queue of a handler on a stored route.
fn queue_of(handler: usize) -> &'static str {
    registry().handlers[handler].stored.expect("a worker has stored handlers only").queue
}

fn is_stopped(ended: &HandlerResult) -> bool {
    let interrupt = ended.as_ref().err().and_then(|error| error.downcast_ref::<Interrupt>());
    matches!(interrupt, Some(Interrupt::Stopped))
}

fn judge_dead(handler: &Linked, claimed: &Claimed, failed: u32, error: String) -> Outcome {
    tracing::error!(handler = %handler.id, delivery = %claimed.lease.delivery, event_id = %claimed.event_id,
        attempts = failed, %error, "a delivery goes to the dead letters");
    Outcome::Dead { failed, error }
}

fn note_lost(handler: &Linked, claimed: &Claimed) -> Option<Outcome> {
    tracing::warn!(handler = %handler.id, delivery = %claimed.lease.delivery,
        "the lease of a running delivery was lost; it runs again elsewhere, and no attempt is counted");
    None
}
