//! The lease keeper: renews the leases of all running deliveries, on a thread of its own.
//!
//! A lease is held from its claim until its settlement. One statement per store renews all of them each third of a
//! lease, so that one which fails or is late can be repeated. The thread has its own runtime: a handler that blocks the
//! application's runtime does not cost the others their leases. A lease counts as lost when the store says so, or when
//! its end has come by the worker's own monotonic clock, which counts from before the claim was sent: whichever is first.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};

use crate::{
    error::StoreError,
    flag::Flag,
    health::Trouble,
    id::SessionId,
    store::{Lapsed, Lease, QueueStore},
    time::{self, End, Instant},
};

/// A session that holds nothing needs no renewal, and is forgotten by its store after two days: long before, it is renewed.
const SESSION_RENEWED: Duration = Duration::from_hours(1);

/// The leases that one worker holds, and the session that holds them.
pub(crate) struct Leases {
    held: Mutex<HashMap<Lease, Arc<Hold>>>,
    session: SessionId,
    /// The store knows the session: a death of what is claimed before would not be noticed.
    registered: Flag,
    /// The worker has ended: nothing is renewed any more.
    left: AtomicBool,
    /// Until when ended leases are left to those who held them; none while the store answers as it should.
    left_until: Mutex<Option<Instant>>,
}

/// One of them, as this process knows it.
pub(crate) struct Hold {
    until: Mutex<End>,
    lost: Flag,
}

impl Hold {
    /// Whether it is lost: the store said so, or its end has come by our own clock, which went on if the process stood still. Asked
    /// wherever a delivery passes from hand to hand: nobody may have been awake to raise the flag.
    pub(crate) fn is_lost(&self) -> bool {
        if self.until().left().is_zero() {
            self.lost.raise();
        }
        self.lost.is_raised()
    }

    /// Whether it may be lost, though our monotonic clock does not say so, which may stand still while the host sleeps.
    pub(crate) fn may_be_lost(&self) -> bool {
        self.is_lost() || self.until().may_have_come()
    }

    /// Waits until it is lost.
    pub(crate) async fn lost(&self) {
        self.lost.raised().await;
    }

    fn until(&self) -> End {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renewed(&self, until: End) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

impl Leases {
    pub(crate) fn new() -> Self {
        Self {
            held: Mutex::default(),
            session: SessionId::mint(),
            registered: Flag::default(),
            left: AtomicBool::new(false),
            left_until: Mutex::default(),
        }
    }

    pub(crate) fn session(&self) -> SessionId {
        self.session
    }

    /// Renews nothing any more: the session ends.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// Waits until the store knows the session.
    pub(crate) async fn registered(&self) {
        self.registered.raised().await;
    }

    pub(crate) fn is_registered(&self) -> bool {
        self.registered.is_raised()
    }

    /// Takes note of how asking the store went. While it fails, and half a lease from when it goes well again, ended leases are left
    /// to those who held them: they may have lived through the same, and come back.
    pub(crate) fn note_answer(&self, answered: bool, lease: Duration) {
        let mut left_until = self.left_until.lock().unwrap_or_else(PoisonError::into_inner);
        if !answered {
            *left_until = Some(time::after(lease / 2));
        } else if left_until.is_some_and(|until| until <= time::now()) {
            *left_until = None;
        }
    }

    /// What claims do with ended leases.
    pub(crate) fn lapsed(&self) -> Lapsed {
        let left_until = *self.left_until.lock().unwrap_or_else(PoisonError::into_inner);
        if left_until.is_some_and(|until| until > time::now()) { Lapsed::Leave } else { Lapsed::Take }
    }

    /// Holds a claimed lease.
    pub(crate) fn hold(&self, lease: Lease, until: End) -> Arc<Hold> {
        let hold = Arc::new(Hold { until: Mutex::new(until), lost: Flag::default() });
        self.lock().insert(lease, Arc::clone(&hold));
        hold
    }

    /// Lets a lease go, after its settlement or its loss.
    pub(crate) fn let_go(&self, lease: Lease) {
        self.lock().remove(&lease);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Lease, Arc<Hold>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Lease> {
        self.lock().keys().copied().collect()
    }

    fn renewed(&self, lease: Lease, until: End) {
        if let Some(hold) = self.lock().get(&lease) {
            hold.renewed(until);
        }
    }

    fn lose(&self, lease: Lease) {
        if let Some(hold) = self.lock().get(&lease) {
            hold.lost.raise();
        }
    }

    /// Gives up what has ended by our own clock.
    fn expire(&self) {
        for hold in self.lock().values() {
            let _lost = hold.is_lost();
        }
    }
}

/// The leases of one worker, and where it has them from.
pub(crate) struct Kept {
    pub store: Arc<dyn QueueStore>,
    pub leases: Arc<Leases>,
    pub trouble: Trouble,
}

/// The thread that renews. It ends when its owner is dropped.
pub(crate) struct Keeper {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts renewing what `workers` hold, each third of `lease`.
    pub(crate) fn start(workers: Vec<Kept>, lease: Duration) -> std::io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        // Stores that are reached over the network open their keeper's connection in this runtime.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
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

async fn keep(workers: Vec<Kept>, lease: Duration, mut stopped: watch::Receiver<bool>) {
    // Each store is renewed by a task of its own: one that cannot be reached must not cost the others their leases.
    let mut tasks = JoinSet::new();
    for Kept { store, leases, trouble } in workers {
        tasks.spawn(renew_each_third(store, Arc::clone(&leases), lease, trouble));
        tasks.spawn(expire_by_our_clock(leases, lease));
    }
    // Dropping the tasks ends them.
    let _stopped = stopped.wait_for(|stop| *stop).await;
}

/// Gives up leases at their end, whether or not a renewal is under way.
async fn expire_by_our_clock(leases: Arc<Leases>, lease: Duration) {
    let mut look = time::tick_every((lease / 20).max(Duration::from_millis(1)));
    loop {
        look.tick().await;
        leases.expire();
    }
}

async fn renew_each_third(store: Arc<dyn QueueStore>, leases: Arc<Leases>, lease: Duration, mut trouble: Trouble) {
    // When the session was renewed last: at its start, and with each lease.
    let mut renewed: Option<Instant> = None;
    loop {
        let began = time::now();
        let is_due = renewed.is_none_or(|at| at.elapsed() >= SESSION_RENEWED);
        let asked = trouble.ask(renew(&*store, &leases, lease, is_due)).await;
        leases.note_answer(asked.is_ok(), lease);
        let wait = match asked {
            Ok(asked) => {
                renewed = if asked { Some(began) } else { renewed };
                (lease / 3).saturating_sub(began.elapsed())
            }
            Err((wait, _)) => wait.min(lease / 20),
        };
        time::sleep(wait).await;
    }
}

/// Renews what is held, and with it the session; answers whether there was anything to renew.
async fn renew(store: &dyn QueueStore, leases: &Leases, lease: Duration, is_due: bool) -> Result<bool, StoreError> {
    let all = leases.all();
    if (all.is_empty() && !is_due) || leases.left.load(Ordering::Relaxed) {
        return Ok(false);
    }
    // Counted from before the store is asked: the store's clock starts later, so ours ends first.
    let until = End::after(lease);
    let held = store.extend(leases.session, &all, lease).await?;
    leases.registered.raise();
    for (lease, held) in all.into_iter().zip(held) {
        if held {
            leases.renewed(lease, until);
        } else {
            leases.lose(lease);
        }
    }
    Ok(true)
}
