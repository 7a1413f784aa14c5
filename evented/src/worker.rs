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
//! To add an outcome: `Outcome` in store.rs, `settle` of each store, judge.rs.

use std::{
    any::Any,
    collections::{BTreeSet, HashMap},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, OwnedSemaphorePermit, RwLock, RwLockReadGuard, RwLockWriteGuard, Semaphore, mpsc, watch};

use crate::{
    attempt::{Interrupt, Interrupts, run_async, run_blocking, run_in_tx},
    def::ErasedCall,
    delivery::{Delivery, Starting},
    error::{HandlerResult, StoreError, in_one_line},
    instance::{Instance, SCOPE, Scope, catch},
    judge::{decode, judge, judge_dead, note_lost},
    lease::Leases,
    registry::{Linked, names_of, registry},
    retry::Policy,
    store::{Claim, ClaimQueue, Claimed, Lease, OutboxStore, Outcome, QueueStore, Settlement, TxEnd},
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
    _held: InFlight,
}

/// What one attempt is made of.
struct Attempt {
    index: usize,
    policy: Policy,
    event: Box<dyn Any + Send>,
    delivery: Delivery,
    cancel: watch::Sender<bool>,
    scope: Scope,
    lost: watch::Receiver<bool>,
}

/// What a claimed delivery occupies until it is settled, or until there is nothing to settle: however it ends, its drop
/// lets the lease go, gives the room back and says so.
struct InFlight {
    worker: Arc<Worker>,
    lease: Lease,
    room: Option<OwnedSemaphorePermit>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.worker.leases.let_go(self.lease);
        drop(self.room.take());
        self.worker.freed.notify_waiters();
    }
}

/// One of those that wait for a slot.
struct Waiting {
    worker: Arc<Worker>,
    queue: usize,
}

impl Waiting {
    fn enter(worker: &Arc<Worker>, queue: usize) -> Self {
        worker.queues[queue].waiting.fetch_add(1, Ordering::Relaxed);
        Self { worker: Arc::clone(worker), queue }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.worker.queues[self.queue].waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a delivery has when it is its turn: a slot, and its side of the lock on running alone.
struct Turn<'w> {
    slot: OwnedSemaphorePermit,
    beside: Option<RwLockReadGuard<'w, ()>>,
    alone: Option<RwLockWriteGuard<'w, ()>>,
}

/// The slot of a blocking function, held by the function itself: given back when it returns.
struct BlockingSlot {
    slot: Option<OwnedSemaphorePermit>,
    worker: Arc<Worker>,
    handler: usize,
}

impl Drop for BlockingSlot {
    fn drop(&mut self) {
        drop(self.slot.take());
        self.worker.shared.instance.blocking.leave(self.handler);
        self.worker.freed.notify_waiters();
    }
}

impl Worker {
    /// `None` when the instance has no handler that this store can run.
    pub(crate) fn new(
        shared: Shared,
        store: Arc<dyn QueueStore>,
        outbox: Option<Arc<dyn OutboxStore>>,
        leases: Arc<Leases>,
    ) -> Option<Arc<Self>> {
        let runnable = runnable(&shared.instance, outbox.is_some());
        let named: Vec<_> =
            names_of(runnable).into_iter().map(|(name, handler)| (name, handler, queue_of(handler))).collect();
        let queue_names: Vec<&str> =
            named.iter().map(|(.., queue)| *queue).collect::<BTreeSet<_>>().into_iter().collect();
        let queue = |wanted: &&str| {
            let handlers = named.iter().filter(|(.., queue)| queue == wanted);
            let version = |handler: usize| registry().handlers[handler].version;
            let handlers = handlers.map(|(name, handler, _)| (Arc::clone(name), version(*handler))).collect();
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
        let mut settler = tokio::spawn(Arc::clone(&self).settle_until_closed(endings));
        tokio::select! {
            // It ends when the last running delivery has.
            () = Arc::clone(&self).claim_until_stopped(ended) => {
                if let Err(error) = settler.await {
                    tracing::error!(%error, "the worker's settler ended early; its leases will end by themselves");
                }
            }
            // Before that it ends by a bug of ours alone: nothing more is claimed, and the end of this loop is noticed.
            _ = &mut settler => tracing::error!("the worker's settler ended early; its leases will end by themselves"),
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
                    Next::Room => time::sleep(LOOK_MAX).await,
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
                // A claim that was long in coming has used up its leases' time: what is left of them could end in the middle.
                let late = until.saturating_duration_since(time::now()) < self.shared.lease / 2;
                for claimed in claims.deliveries {
                    self.start(claimed, until, late, ended);
                }
                Next::Now
            }
            Err(error) => Next::Retry(trouble.note("claiming", &error)),
        }
    }

    /// Starts a task for a claimed delivery. One that is `late`, or that there is no room for, is given back: rare, and no
    /// reason to stop.
    fn start(self: &Arc<Self>, claimed: Claimed, until: Instant, late: bool, ended: &mpsc::UnboundedSender<Ended>) {
        let lost = self.leases.hold(claimed.lease, until);
        let mut held = InFlight { worker: Arc::clone(self), lease: claimed.lease, room: None };
        let name = Arc::clone(&claimed.handler);
        let (lease, ended) = (claimed.lease, ended.clone());
        let end = move |outcome, held| {
            let settlement = Settlement { lease, outcome };
            // The settler outlives every task: it ends when the last sender is gone.
            let _gone = ended.send(Ended { settlement, handler: name, _held: held });
        };
        let found = self.by_name.get(&claimed.handler).copied();
        let room = found.and_then(|(_, queue)| Arc::clone(&self.queues[queue].room).try_acquire_owned().ok());
        let (Some((handler, queue)), Some(room), false) = (found, room, late) else {
            end(Outcome::Released, held);
            return;
        };
        held.room = Some(room);
        // Counted here and not in the task: the next claim may come before the task's first step.
        let waiting = Waiting::enter(self, queue);
        let worker = Arc::clone(self);
        tokio::spawn(async move {
            // A panic outside the handler itself, in the `Drop` or the `Display` of something of the application's, must
            // not leave a lease behind that is renewed for ever.
            let running = catch(|| Box::pin(async { Ok(worker.run(handler, waiting, &claimed, lost).await) })).await;
            let outcome = running.unwrap_or_else(|panic| {
                let handler = &registry().handlers[handler];
                let policy = handler.stored.map_or(claimed.policy, |stored| stored.policy);
                judge(handler, policy, &claimed, Err(panic))
            });
            if let Some(outcome) = outcome {
                end(outcome, held);
            }
        });
    }

    /// Runs one delivery; `None` when there is nothing to settle: its lease was lost, or it settled itself.
    async fn run(
        self: &Arc<Self>,
        index: usize,
        waiting: Waiting,
        claimed: &Claimed,
        mut lost: watch::Receiver<bool>,
    ) -> Option<Outcome> {
        let queue = &self.queues[waiting.queue];
        let handler = &registry().handlers[index];
        let stored = handler.stored.expect("a worker claims stored handlers only");
        let policy = stored.policy;
        if claimed.deaths >= DEATHS_MAX {
            let error = format!("its worker died {DEATHS_MAX} times while it ran this delivery alone");
            return Some(judge_dead(handler, claimed, claimed.failed, error));
        }
        let event = match decode(stored, claimed) {
            Ok(event) => event,
            Err(error) => return Some(judge_dead(handler, claimed, claimed.failed, error)),
        };
        let mut stopping = self.shared.stopping.clone();
        let turn = async {
            let slot = Arc::clone(&queue.slots).acquire_owned().await.expect("slots are never closed");
            // A delivery that outlived a lease may be what killed its worker: it runs with nothing beside it.
            let everyone = &self.shared.alone;
            if claimed.lost {
                Turn { slot, beside: None, alone: Some(everyone.write().await) }
            } else {
                Turn { slot, beside: Some(everyone.read().await), alone: None }
            }
        };
        let turn = tokio::select! {
            turn = turn => turn,
            _ = lost.wait_for(|lost| *lost) => return note_lost(handler, claimed),
            // What has not been started when the worker stops is given back at once.
            _ = stopping.wait_for(|stop| *stop) => return Some(Outcome::Released),
        };
        drop(waiting);
        if claimed.lost {
            tracing::warn!(handler = %handler.id, delivery = %claimed.lease.delivery, event_id = %claimed.event_id,
                deaths = claimed.deaths, "a delivery runs again, alone in its process: its last worker died, or lost its lease");
            if let Ok(false) = self.store.runs_alone(claimed.lease, true).await {
                return note_lost(handler, claimed);
            }
        }
        let began = time::now();
        let (delivery, cancel) = Delivery::start(Starting {
            id: claimed.lease.delivery,
            event_id: claimed.event_id,
            correlation: claimed.correlation,
            attempt: claimed.failed + 1,
            attempts_max: policy.attempts_max,
            emitted_unix_ms: claimed.emitted_unix_ms,
            timeout: self.timeout(handler, policy),
        });
        let scope = Scope {
            instance: Arc::clone(&self.shared.instance),
            correlation: Some(claimed.correlation),
            in_tx: handler.takes_tx(),
        };
        let attempt = Attempt { index, policy, event, delivery, cancel: cancel.clone(), scope, lost };
        let ended = match &self.outbox {
            Some(outbox) if handler.takes_tx() => {
                let end = self.attempt_in_tx(&**outbox, stored.call, attempt, claimed).await;
                cancel.send_replace(true);
                match end {
                    Ok(TxEnd::Committed) => {
                        queue.note_run(began.elapsed());
                        return None;
                    }
                    Ok(TxEnd::Lost) => return note_lost(handler, claimed),
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
            _ if stored.call.is_async() => {
                let interrupts = self.interrupts(policy.timeout, &attempt.lost);
                let running =
                    run_async(stored.call, attempt.event, attempt.delivery, attempt.scope.instance.clone(), None);
                SCOPE.scope(attempt.scope, interrupts.or(running)).await
            }
            _ => self.attempt_blocking(stored.call, attempt, claimed, turn).await?,
        };
        // What the handler may have left running elsewhere can see that the attempt is over.
        cancel.send_replace(true);
        queue.note_run(began.elapsed());
        if ended.is_ok() && began.elapsed() > policy.timeout {
            tracing::warn!(handler = %handler.id, place = %handler.place, took = ?began.elapsed(), timeout = ?policy.timeout,
                "a handler went past its timeout without yielding; make it a plain `fn`, which runs on the blocking pool");
        }
        judge(handler, policy, claimed, ended)
    }

    async fn attempt_in_tx(
        &self,
        outbox: &dyn OutboxStore,
        call: &'static dyn ErasedCall,
        attempt: Attempt,
        claimed: &Claimed,
    ) -> Result<TxEnd, StoreError> {
        let timeout = self.timeout(&registry().handlers[attempt.index], attempt.policy);
        let interrupts = self.interrupts(timeout, &attempt.lost);
        let Attempt { event, delivery, scope, .. } = attempt;
        run_in_tx(outbox, claimed.lease, call, event, delivery, scope, interrupts).await
    }

    /// Runs a plain function, which nothing can stop. When its time is up, its attempt has failed; but until it returns it
    /// keeps its slot and its lease, so that no second run goes beside it. `None` when the lease was lost meanwhile or the
    /// process ends: the lease ends by itself then.
    async fn attempt_blocking(
        self: &Arc<Self>,
        call: &'static dyn ErasedCall,
        attempt: Attempt,
        claimed: &Claimed,
        turn: Turn<'_>,
    ) -> Option<HandlerResult> {
        let Turn { slot, beside, alone } = turn;
        let Attempt { index, policy, event, delivery, cancel, scope, lost } = attempt;
        let slot = BlockingSlot { slot: Some(slot), worker: Arc::clone(self), handler: index };
        self.shared.instance.blocking.enter(index);
        let mut running = pin!(run_blocking(call, event, delivery, scope, slot));
        let ended = self.interrupts(policy.timeout, &lost).or(&mut running).await;
        // It may look whether its time is over.
        cancel.send_replace(true);
        match ended.as_ref().err().and_then(|error| error.downcast_ref()) {
            Some(Interrupt::TimedOut(_)) => {
                let handler = &registry().handlers[index];
                tracing::warn!(handler = %handler.id, place = %handler.place, timeout = ?policy.timeout,
                    delivery = %claimed.lease.delivery, "a blocking handler's time is up, but it still runs; it keeps its \
                    slot and its lease until it returns, and should look at `Delivery::is_cancelled`");
                // Its time is over: those that wait for it to be alone, or for its end to be alone, go on.
                self.runs_alone_no_more(claimed).await;
                drop((beside, alone));
                let returned = async { running.await.or(Ok(())) };
                self.interrupts(Duration::MAX, &lost).or(returned).await.ok()?;
                Some(ended)
            }
            // A stop is no death, though the function goes on under its lease until the process ends.
            Some(Interrupt::Stopped) => {
                self.runs_alone_no_more(claimed).await;
                None
            }
            Some(Interrupt::Lost) => None,
            None => Some(ended),
        }
    }

    /// What happens to this worker from now on is not this delivery's doing.
    async fn runs_alone_no_more(&self, claimed: &Claimed) {
        if claimed.lost
            && let Err(error) = self.store.runs_alone(claimed.lease, false).await
        {
            tracing::debug!(error = %in_one_line(&error), "could not note that a delivery runs alone no more");
        }
    }

    /// How long an attempt may take. A transactional handler holds the store's write lock, behind which the renewal of all
    /// leases waits, so it has a third of one at the most.
    fn timeout(&self, handler: &Linked, policy: Policy) -> Duration {
        if handler.takes_tx() { policy.timeout.min(self.shared.lease / 3) } else { policy.timeout }
    }

    fn interrupts(&self, timeout: Duration, lost: &watch::Receiver<bool>) -> Interrupts {
        Interrupts { timeout, lost: lost.clone(), aborting: self.shared.aborting.clone() }
    }

    async fn settle_until_closed(self: Arc<Self>, mut endings: mpsc::UnboundedReceiver<Ended>) {
        let mut batch = Vec::new();
        while endings.recv_many(&mut batch, SETTLE_MAX).await > 0 {
            let settlements: Arc<[_]> = batch.iter().map(|ended| ended.settlement.clone()).collect();
            let held = self.settle(settlements).await;
            for (index, ended) in batch.drain(..).enumerate() {
                if held.as_ref().is_some_and(|held| !held[index]) {
                    tracing::warn!(handler = %ended.handler, delivery = %ended.settlement.lease.delivery,
                        "a delivery was settled after its lease was lost; the settlement changed nothing");
                }
            }
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

/// The handlers of an instance whose deliveries can run from a store: transactional ones run from the outbox alone.
pub(crate) fn runnable(instance: &Instance, in_outbox: bool) -> impl Iterator<Item = usize> {
    instance.active_handlers().filter(move |index| {
        let handler = &registry().handlers[*index];
        handler.stored.is_some() && (in_outbox || !handler.takes_tx())
    })
}

/// The queue of a handler on a stored route.
fn queue_of(handler: usize) -> &'static str {
    registry().handlers[handler].stored.expect("a worker has stored handlers only").queue
}
