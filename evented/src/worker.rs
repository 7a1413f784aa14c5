//! The worker: claims deliveries of one store, runs their handlers, settles what became of them.
//!
//! A delivery goes through these hands:
//!
//! 1. `work` asks the store in one exchange to settle what has ended and to lease what is due, as far as there is room, and
//!    starts a task for each. While an exchange is under way, what ends gathers for the next one.
//! 2. `run` runs the handler in that task, until it ends, its time is up, its lease is lost or the worker stops, and hands its
//!    end back to `work`. Room in the queue is given back when that is settled: "in flight" is claimed and not yet settled.
//!
//! While `work` waits, the relay claims for it, in the commit in which it stores deliveries beside the outbox: they start one
//! commit sooner.
//!
//! The lease keeper (lease.rs) renews from the claim to the settlement. A crash at any point leaves the lease to end,
//! and the delivery to run again: nothing here holds what the store does not know.
//!
//! To add an outcome: `Outcome` in store.rs, `exchange` of each store, judge.rs.

mod held;
mod run;
mod suspects;

use std::{
    sync::{
        Arc, Mutex as SyncMutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Mutex, MutexGuard, Notify, OwnedSemaphorePermit, mpsc, watch};

use crate::{
    capacity::{BATCH, Found, Queues, queue_of},
    error::in_one_line,
    in_flight::{Ended, InFlight},
    instance::{Instance, catch},
    judge::judge,
    lease::Leases,
    registry::registry,
    store::{Claim, ClaimQueue, Claimed, Claims, Exchanged, Outbox, Outcome, QueueStore, Store},
    time::{self, End, Instant},
};

pub(crate) use self::held::Offer;
use self::{held::Waiting, suspects::Suspicion};

/// While more is due than was claimed, an exchange is worth more when more of it has ended: it waits so long for that.
const GATHER: Duration = Duration::from_millis(1);
/// What the relay has left until then, the worker looks for by itself.
const SOON: Duration = Duration::from_millis(20);
/// How long a worker waits without looking, though nothing seems to have changed.
const LOOK_MAX: Duration = Duration::from_secs(5);

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
    /// What is under suspicion: room for it, and when to look.
    suspects: Suspicion,
    /// Where deliveries go that are over; none before and after the time in which they are claimed.
    endings: SyncMutex<Option<mpsc::UnboundedSender<Ended>>>,
}

/// When the store is to be asked for more.
enum Look {
    Now,
    At(Instant),
}

impl Worker {
    /// `None` when the instance has no handler that this store can run.
    pub(crate) fn new(shared: Shared, store: &Store, outbox: Option<Outbox>, leases: Arc<Leases>) -> Option<Arc<Self>> {
        let runnable = runnable(&shared.instance).filter(|handler| shared.works_on(queue_of(*handler)));
        let queues = Queues::of(runnable);
        let (name, store) = (store.about.name().to_owned(), Arc::clone(&store.queue));
        let look_again = Notify::new();
        let (refreshing, claiming, endings) = (AtomicBool::new(false), Mutex::default(), SyncMutex::default());
        (!queues.is_empty()).then(|| {
            Arc::new(Self {
                shared,
                store,
                name,
                outbox,
                queues,
                leases,
                look_again,
                refreshing,
                claiming,
                suspects: Suspicion::default(),
                endings,
            })
        })
    }

    /// Works until the instance stops and all that was claimed is settled.
    pub(crate) async fn work(self: Arc<Self>) {
        self.work_off().await;
        // What it holds still when its leases end was interrupted.
        if let Err(error) = self.store.leave(self.leases.session()).await {
            tracing::debug!(error = %in_one_line(&error), store = %self.name, "the session could not be ended; it is forgotten later");
        }
    }

    async fn work_off(self: &Arc<Self>) {
        let mut stopping = self.shared.stopping.clone();
        let mut aborting = self.shared.aborting.clone();
        let mut trouble = self.shared.instance.health.watch(format!("working off {}", self.name));
        // Unbounded, since an ending that waited for room would keep its lease running, and bounded all the same: each is of a delivery
        // that was claimed here and is not settled, and no more are claimed than slots are free and can be started soon (`capacity.rs`).
        let (ended, mut endings) = mpsc::unbounded_channel();
        // Each running delivery has one too: the channel ends after the last, when these are gone.
        self.take_endings(Some(ended.clone()));
        let mut ended = Some(ended);
        let mut batch: Vec<Ended> = Vec::new();
        let mut look = Look::Now;
        let mut mark = 0;
        let mut claiming = None;
        tokio::select! {
            () = self.leases.registered() => {}
            _ = stopping.wait_for(|stop| *stop) => {}
        }
        loop {
            if *stopping.borrow() {
                ended = None;
                self.take_endings(None);
            }
            while batch.len() < BATCH
                && let Ok(one) = endings.try_recv()
            {
                batch.push(one);
            }
            if claiming.is_none() && ended.is_some() {
                claiming = self.turn_to_claim(&mut endings, &mut batch, &mut stopping).await;
                if *stopping.borrow() {
                    continue;
                }
            }
            let claim = match (&claiming, &look) {
                (None, _) => None,
                (Some(_), Look::At(at)) if *at > time::now() && batch.is_empty() => None,
                (Some(_), _) if ended.is_none() => None,
                (Some(_), _) => {
                    let freed = batch.iter().filter_map(|ended| ended.held.found.as_ref());
                    self.queues.wanted(freed).map(|queues| self.claim(queues))
                }
            };
            let settlements: Arc<[_]> = batch.iter().filter_map(Ended::settlement).collect();
            if settlements.is_empty() && claim.is_none() {
                batch.clear();
                if claiming.take().is_none() && ended.is_some() {
                    // There is room that nobody has claimed for.
                    look = Look::Now;
                    continue;
                }
                let most = match look {
                    Look::Now => LOOK_MAX,
                    Look::At(at) => at.saturating_duration_since(time::now()),
                };
                tokio::select! {
                    gathered = endings.recv_many(&mut batch, BATCH) => if gathered == 0 { return },
                    // Where nothing is claimed for want of room, a change is no reason to look.
                    now = self.store.wait(mark, most), if ended.is_some() && matches!(look, Look::At(_)) => {
                        mark = now;
                        look = Look::Now;
                    }
                    () = self.look_again.notified() => look = Look::Now,
                    _ = stopping.wait_for(|stop| *stop), if ended.is_some() => {}
                }
                continue;
            }
            let asked = claim.is_some();
            // Counted from before the store is asked, so that our end of the lease comes before the store's.
            let until = End::after(self.shared.lease);
            let asking = trouble.ask(self.store.exchange(settlements, claim.clone())).await;
            self.leases.note_answer(asking.is_ok(), self.shared.lease);
            match asking {
                Ok(exchanged) => {
                    self.take_note(&mut batch, &exchanged);
                    if !asked {
                        look = Look::Now;
                        continue;
                    }
                    self.queues.ask_for_more();
                    let Claims { deliveries, next_due, suspects } = exchanged.claims;
                    if suspects {
                        self.suspects.look();
                    }
                    let more = next_due == Some(Duration::ZERO);
                    look = if deliveries.is_empty() || !more {
                        Look::At(time::after(next_due.map_or(LOOK_MAX, |next| next.min(LOOK_MAX))))
                    } else {
                        Look::Now
                    };
                    let claimed = deliveries.len();
                    if let Some(ended) = &ended {
                        self.start_all(deliveries, until, ended);
                    }
                    if more && claimed > 0 {
                        self.gather(&mut endings, &mut batch, claimed / 2).await;
                    }
                }
                Err((wait, _)) => {
                    if let Some(claim) = &claim {
                        self.queues.ask_for_fewer(claim);
                    }
                    if *aborting.borrow() {
                        // What is not settled runs again when its lease ends.
                        return;
                    }
                    tokio::select! {
                        () = time::sleep(wait) => {}
                        _ = aborting.wait_for(|abort| *abort) => {}
                    }
                }
            }
        }
    }

    /// Waits until it may claim. `None` while the relay claims and something has ended, which is settled meanwhile, or when the
    /// worker stops.
    async fn turn_to_claim(
        &self,
        endings: &mut mpsc::UnboundedReceiver<Ended>,
        batch: &mut Vec<Ended>,
        stopping: &mut watch::Receiver<bool>,
    ) -> Option<MutexGuard<'_, ()>> {
        if !batch.is_empty() {
            return self.claiming.try_lock().ok();
        }
        tokio::select! {
            biased;
            held = self.claiming.lock() => Some(held),
            _ = endings.recv_many(batch, BATCH) => None,
            _ = stopping.wait_for(|stop| *stop) => None,
        }
    }

    /// Under pressure, lets what ends gather for a moment: an exchange of many costs little more than one of few.
    async fn gather(&self, endings: &mut mpsc::UnboundedReceiver<Ended>, batch: &mut Vec<Ended>, enough: usize) {
        let gathering =
            async { while batch.len() < enough && endings.recv_many(batch, BATCH - batch.len()).await > 0 {} };
        let _in_time = time::within(GATHER, gathering).await;
    }

    /// Lets the relay claim beside its own work, while the worker waits and has room.
    pub(crate) fn offer(self: &Arc<Self>) -> Option<Offer<'_>> {
        if *self.shared.stopping.borrow() {
            return None;
        }
        let claiming = self.claiming.try_lock().ok()?;
        let ended = self.endings()?;
        let lease = self.shared.lease;
        let claim = self.queues.wanted(std::iter::empty()).filter(|_| self.leases.is_registered())?;
        let claim = self.claim(claim);
        Some(Offer { worker: self, _claiming: claiming, ended, until: End::after(lease), claim })
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

    /// Takes note of what an exchange settled, and of which catalogue the store has.
    fn take_note(self: &Arc<Self>, batch: &mut Vec<Ended>, exchanged: &Exchanged) {
        note_late(batch, &exchanged.held);
        self.note_settled(batch, &exchanged.held);
        batch.clear();
        self.suspects.settled();
        if let Some(generation) = exchanged.generation {
            self.look_at_generation(generation);
        }
    }

    /// What ran in the outbox's database and is settled here cannot come again: that database may forget it in a while.
    fn note_settled(&self, batch: &[Ended], held: &[bool]) {
        let settled = batch.iter().filter(|ended| ended.outcome.is_some()).zip(held).filter(|(_, held)| **held);
        let once = settled.filter(|(ended, _)| ended.once && matches!(ended.outcome, Some(Outcome::Completed)));
        self.shared.instance.note_settled(once.map(|(ended, _)| ended.lease.delivery));
    }

    /// The store has another catalogue than this process planned from: it was changed, or emptied, restored or replaced. It
    /// is read again, beside the work.
    fn look_at_generation(self: &Arc<Self>, generation: u64) {
        let plans = self.shared.instance.plans();
        let known = if self.outbox.is_some() { plans.outbox_generation } else { plans.queue_generation };
        if generation == known {
            return;
        }
        if self.refreshing.swap(true, Ordering::Relaxed) {
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

    /// Starts a task for a claimed delivery. One that is `late`, or that there is no room for, is given back: rare, and no
    /// reason to stop.
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
                judge(handler, policy, &claimed, Err(panic))
            });
            // `work` outlives every task: it ends when the last sender is gone, or when it gives up.
            let once = worker.outbox.is_none() && registry().handlers[handler].takes_tx();
            let _gone = ended.send(Ended { lease, outcome, name, held, once });
        });
    }
}

/// Says which settlements came after their lease was lost.
fn note_late(batch: &[Ended], held: &[bool]) {
    // What was given back had lost its lease perhaps, and is given back for that.
    let settled = batch.iter().filter(|ended| ended.outcome.is_some());
    let settled = settled.zip(held).filter(|(ended, _)| !matches!(ended.outcome, Some(Outcome::Released)));
    for (ended, _) in settled.filter(|(_, held)| !**held) {
        tracing::warn!(handler = %ended.name, delivery = %ended.lease.delivery,
            "a delivery was settled after its lease was lost; the settlement changed nothing");
    }
}

/// The handlers of an instance whose deliveries can run from a store.
pub(crate) fn runnable(instance: &Instance) -> impl Iterator<Item = usize> {
    instance.active_handlers().filter(|index| registry().handlers[*index].stored.is_some())
}
