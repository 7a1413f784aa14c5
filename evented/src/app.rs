//! The handle of a started instance: emit through it, look into it, stop it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{sync::Mutex, task::JoinHandle};

use crate::{
    emit::{Emit, EmitAll, emit, emit_all},
    emit_in::{EmitIn, emit_in},
    error::{Error, ErrorKind, StoreError},
    event::{Declared, EmittedDirectly, EmittedInTransaction, Event},
    health::Health,
    id::DeliveryId,
    instance::{self, Instance, SCOPE, Scope},
    names::{check_handler, check_queue},
    registry::{names_of, registry},
    store::{DeadLetter, Letters, Pending, Route, Stats, Step, Store, StoreTime, StoredCount, tx::InTx},
    time,
    worker::runnable,
};

/// How long a stop waits for settlements after the grace.
const SETTLE_GRACE: Duration = Duration::from_secs(5);
/// How often a wait for idleness looks, at the most.
const IDLE_LOOK: Duration = Duration::from_millis(20);
/// How long others have their turn between two steps of a change of many.
const STEP_GAP: Duration = Duration::from_millis(2);
/// How many dead letters are read from each store.
const DEAD_LETTERS_MAX: u32 = 1_000;

/// A started instance. Cheap to clone.
///
/// Dropping the process's own instance leaves it running; dropping the last handle of one with `.install(false)` stops
/// it without a drain: what it ran, runs again when the leases end.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    instance: Arc<Instance>,
    grace: Duration,
    installed: bool,
    work: Mutex<Option<JoinHandle<()>>>,
}

impl App {
    pub(crate) fn new(instance: Arc<Instance>, grace: Duration, installed: bool, work: JoinHandle<()>) -> Self {
        Self(Arc::new(Inner { instance, grace, installed, work: Mutex::new(Some(work)) }))
    }

    /// [`emit`](crate::emit()) through this instance.
    pub fn emit<E: Event<Delivery: Declared<E, Kind: EmittedDirectly<E>>>>(&self, event: E) -> Emit<E> {
        emit(event).through(&self.0.instance)
    }

    /// [`emit_all`](crate::emit_all) through this instance.
    pub fn emit_all<I>(&self, events: I) -> EmitAll<I::Item>
    where
        I: IntoIterator<Item: Event<Delivery: EmittedDirectly<I::Item>>>,
    {
        emit_all(events).through(&self.0.instance)
    }

    /// [`emit_in`](crate::emit_in()) through this instance.
    pub fn emit_in<'t, T, E, Db>(&self, tx: &'t mut T, event: E) -> EmitIn<'t, T, E>
    where
        T: InTx<Db>,
        E: Event<Delivery: Declared<E, Kind: EmittedInTransaction<E>>>,
        Db: 't,
    {
        emit_in(tx, event).through(&self.0.instance)
    }

    /// Waits for SIGINT (Ctrl-C) or SIGTERM, then stops as [`stop`](Self::stop) does. A second signal ends the grace.
    ///
    /// A blocking handler, a plain `fn`, cannot be dropped: where one still runs after the grace, this waits for it, and
    /// a further signal ends the process at once, with exit code 130.
    ///
    /// # Errors
    /// When the signals cannot be listened for, or a loop of evented ended by itself: end the process then, for its
    /// supervisor to start it again. Nothing stored is lost.
    pub async fn until_stopped(&self) -> Result<(), Error> {
        let instance = &self.0.instance;
        let mut signals = Signals::listen().map_err(|error| {
            Error::new(ErrorKind::Boot, "signals of the operating system cannot be listened for").because(error)
        })?;
        let mut stopping = instance.stopping.subscribe();
        let signal = tokio::select! {
            signal = signals.next() => signal,
            // Somebody called `stop`, or a loop ended.
            _ = stopping.wait_for(|stop| *stop) => "none",
        };
        tracing::info!(signal, grace = ?self.0.grace, "stopping; a second signal ends the grace");
        tokio::select! {
            () = self.stop() => {}
            _ = signals.next() => {
                instance.aborting.send_replace(true);
                self.stop().await;
            }
        }
        let blocking = instance.blocking.names();
        if !blocking.is_empty() {
            tracing::warn!(handlers = ?blocking, "blocking handlers still run; waiting for them, a signal ends the process");
            tokio::select! {
                () = instance.blocking.until_none() => {}
                _ = signals.next() => std::process::exit(130),
            }
        }
        if instance.failed.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Store, "a loop of evented ended by itself; the log says which"));
        }
        Ok(())
    }

    /// Runs a future in which the free [`emit`](crate::emit()) and [`emit_in`](crate::emit_in()) use this instance: for a
    /// test that calls functions which emit, with an instance that has `.install(false)`.
    pub async fn scope<F: Future>(&self, future: F) -> F::Output {
        let scope = Scope { instance: Arc::clone(&self.0.instance), cause: None, in_tx: false };
        SCOPE.scope(scope, future).await
    }

    /// Stops: claims nothing more, waits for running handlers as long as the grace, then drops them. What was dropped is
    /// given back at once and runs in another process or after the next start, without an attempt being counted.
    ///
    /// Afterwards emits through this instance answer [`NotStarted`](crate::ErrorKind::NotStarted), and another instance can
    /// be started. A second stop waits for the first, or goes on with it where it was dropped. A blocking handler goes on
    /// until it returns, which ends no earlier than the process.
    ///
    /// Called by a handler of this instance, it begins the stop and returns: the handler that calls it is one of those which
    /// the stop waits for. [`until_stopped`](Self::until_stopped) returns when all is done.
    pub async fn stop(&self) {
        if SCOPE
            .try_with(|scope| scope.cause.is_some() && Arc::ptr_eq(&scope.instance, &self.0.instance))
            .unwrap_or(false)
        {
            // It would wait for the handler that waits for it.
            self.0.instance.stopping.send_replace(true);
            let app = self.clone();
            tokio::spawn(async move { app.drain().await });
            return;
        }
        self.drain().await;
    }

    async fn drain(&self) {
        let Inner { instance, grace, work, .. } = &*self.0;
        instance.stopping.send_replace(true);
        let mut work = work.lock().await;
        if let Some(running) = work.as_mut() {
            let mut aborting = instance.aborting.subscribe();
            let in_time = tokio::select! {
                done = time::within(*grace, &mut *running) => done.is_some(),
                _ = aborting.wait_for(|abort| *abort) => false,
            };
            if !in_time {
                instance.aborting.send_replace(true);
                if time::within(SETTLE_GRACE, &mut *running).await.is_none() {
                    tracing::warn!("stopped before everything was settled; the rest runs again when its leases end");
                    running.abort();
                }
            }
            *work = None;
            tracing::info!("stopped");
        }
        instance.close();
        instance::uninstall(instance);
    }

    /// Waits until nothing is left to do: no event in the outbox, and no delivery that this instance has a handler for,
    /// whether waiting, delayed or running, here or in another process. For tests and for programs that end.
    ///
    /// # Errors
    /// When a store cannot be read.
    pub async fn until_idle(&self) -> Result<(), Error> {
        // Two quiet looks with nothing settled between them: a handler that ended between the reads of one look may have
        // emitted what that look no longer saw.
        let mut quiet: Option<u64> = None;
        loop {
            let rows = match &self.0.instance.outbox {
                Some(outbox) => outbox.rows.count().await?,
                None => 0,
            };
            let counts = self.counts().await?;
            let left: u64 = counts.iter().map(|count| count.left).sum();
            let settled: u64 = counts.iter().map(|count| count.done + count.retried + count.dead).sum();
            if rows + left == 0 {
                if quiet == Some(settled) {
                    return Ok(());
                }
                quiet = Some(settled);
                tokio::task::yield_now().await;
                continue;
            }
            quiet = None;
            time::sleep(IDLE_LOOK).await;
        }
    }

    /// What has become of the deliveries, by handler, sorted by its id. For handlers on stored routes the numbers are the
    /// stores', over all processes and restarts; for in-process handlers they are this process's.
    ///
    /// # Errors
    /// When a store cannot be read.
    pub async fn counts(&self) -> Result<Vec<Count>, Error> {
        let instance = &self.0.instance;
        let mut counts: Vec<Count> = Vec::new();
        for store in instance.stores() {
            let linked = names_of(runnable(instance));
            for stored in store.asked()?.stats().await?.handlers {
                let linked = linked.contains_key(stored.handler.as_str());
                // Both catalogues know each handler; one of the stores has its deliveries.
                match counts.iter_mut().find(|count| count.handler == stored.handler) {
                    Some(count) => count.add(&stored, linked),
                    None => counts.push(Count::of(stored, linked)),
                }
            }
        }
        counts.extend(instance.active_handlers().filter_map(|index| self.in_process(index)));
        counts.sort_by(|a, b| a.handler.cmp(&b.handler));
        Ok(counts)
    }

    fn in_process(&self, index: usize) -> Option<Count> {
        let Inner { instance, .. } = &*self.0;
        let handler = &registry().handlers[index];
        if handler.stored.is_some() {
            return None;
        }
        let event = registry().events.iter().position(|event| event.id == handler.event)?;
        let dead = instance.failures[index].load(Ordering::Relaxed);
        // The handlers of `emit` are all called each time, so one count per event is enough.
        let ran = if handler.is_in_transaction() { &instance.calls[index] } else { &instance.events[event].emitted };
        let ran = ran.load(Ordering::Relaxed);
        Some(Count {
            handler: handler.id.to_string(),
            event: handler.event.to_owned(),
            route: Route::InProcess,
            queue: String::new(),
            linked: true,
            waiting: 0,
            running: 0,
            done: ran.saturating_sub(dead),
            retried: 0,
            dead,
            due_for: None,
            left: 0,
        })
    }

    /// What has become of the deliveries, by queue, sorted by its name: over all stores and processes.
    ///
    /// # Errors
    /// When a store cannot be read.
    pub async fn queues(&self) -> Result<Vec<QueueCount>, Error> {
        let mut queues: BTreeMap<String, QueueCount> = BTreeMap::new();
        for store in self.0.instance.stores() {
            let Stats { handlers, paused } = store.asked()?.stats().await?;
            for stored in handlers {
                queues.entry(stored.queue.clone()).or_insert_with(|| QueueCount::new(&stored.queue)).add(&stored);
            }
            for name in paused {
                queues.entry(name.clone()).or_insert_with(|| QueueCount::new(&name)).paused = true;
            }
        }
        Ok(queues.into_values().collect())
    }

    /// Pauses a queue: until [`resume`](Self::resume) no process starts a delivery of it, also after a restart. What runs
    /// goes on, and emits go on being stored. May be called from any process, also while no worker runs.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) where no handler that a store knows is in the queue; when a store cannot be written.
    pub async fn pause(&self, queue: &str) -> Result<(), Error> {
        self.set_paused(queue, true).await
    }

    /// Lets a paused queue go on.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub async fn resume(&self, queue: &str) -> Result<(), Error> {
        self.set_paused(queue, false).await
    }

    async fn set_paused(&self, queue: &str, paused: bool) -> Result<(), Error> {
        check_queue(&self.0.instance, queue).await?;
        for store in self.0.instance.stores() {
            store.asked()?.pause(queue.to_owned(), paused).await?;
        }
        Ok(())
    }

    /// Whether the loops of this instance make progress: for the readiness check of a process. Asks no store.
    #[must_use]
    pub fn health(&self) -> Health {
        self.0.instance.health.health()
    }

    /// The newest dead letters, at most 1,000 of each store: with the error of the last attempt, how many there were, and
    /// when it died.
    ///
    /// # Errors
    /// When a store cannot be read.
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter>, Error> {
        self.letters(None).await
    }

    /// The newest dead letters of one handler, at most 1,000.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) where no store knows the handler; when a store cannot be read.
    pub async fn dead_letters_of(&self, handler: &str) -> Result<Vec<DeadLetter>, Error> {
        check_handler(&self.0.instance, handler).await?;
        self.letters(Some(handler)).await
    }

    async fn letters(&self, handler: Option<&str>) -> Result<Vec<DeadLetter>, Error> {
        let mut letters = Vec::new();
        for store in self.0.instance.stores() {
            letters.extend(store.asked()?.dead_letters(handler.map(str::to_owned), DEAD_LETTERS_MAX).await?);
        }
        Ok(letters)
    }

    /// Makes a dead letter a delivery again: due at once, with all its attempts before it. Answers whether it was one.
    ///
    /// # Errors
    /// When a store cannot be written.
    pub async fn requeue(&self, delivery: DeliveryId) -> Result<bool, Error> {
        Ok(self.requeue_letters(&Letters::One(delivery)).await? > 0)
    }

    /// Makes all dead letters of a handler deliveries again. Answers how many there were.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) where no store knows the handler; when a store cannot be written.
    pub async fn requeue_all(&self, handler: &str) -> Result<u64, Error> {
        check_handler(&self.0.instance, handler).await?;
        self.requeue_letters(&Letters::Of(handler.to_owned())).await
    }

    async fn requeue_letters(&self, letters: &Letters) -> Result<u64, Error> {
        let mut requeued = 0;
        for store in self.0.instance.stores() {
            let admin = store.asked()?;
            requeued += in_steps(&store, |up_to| admin.requeue(letters.clone(), up_to)).await?;
        }
        Ok(requeued)
    }

    /// Deletes a dead letter. Answers whether it was one.
    ///
    /// # Errors
    /// When a store cannot be written.
    pub async fn discard(&self, delivery: DeliveryId) -> Result<bool, Error> {
        Ok(self.discard_letters(&Letters::One(delivery)).await? > 0)
    }

    /// Deletes all dead letters of a handler. Answers how many there were.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) where no store knows the handler; when a store cannot be written.
    pub async fn discard_all(&self, handler: &str) -> Result<u64, Error> {
        check_handler(&self.0.instance, handler).await?;
        self.discard_letters(&Letters::Of(handler.to_owned())).await
    }

    async fn discard_letters(&self, letters: &Letters) -> Result<u64, Error> {
        let mut discarded = 0;
        for store in self.0.instance.stores() {
            let admin = store.asked()?;
            discarded += in_steps(&store, |up_to| admin.discard(letters.clone(), up_to)).await?;
        }
        Ok(discarded)
    }

    /// Takes a handler that no release has any more from the catalogue: nothing is stored for it from now on. Answers whether
    /// it was there, and how many of its deliveries are left: they stay, and none of them runs unless a process links the
    /// handler again, which also brings it back to the catalogue at its start.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) where no store knows the handler; when a store cannot be written.
    pub async fn retire(&self, handler: &str) -> Result<Retired, Error> {
        let Inner { instance, .. } = &*self.0;
        check_handler(instance, handler).await?;
        let mut retired = Retired { was_there: false, waiting: 0 };
        for store in instance.stores() {
            retired.was_there |= instance.retire_in(&store, handler).await?;
        }
        // Counted after it was taken out: nothing is added any more.
        for store in instance.stores() {
            let stats = store.asked()?.stats().await?.handlers;
            retired.waiting += stats
                .iter()
                .filter(|count| count.handler == handler)
                .map(|count| count.waiting + count.running)
                .sum::<u64>();
        }
        instance.refresh().await?;
        if retired.waiting > 0 {
            tracing::warn!(
                handler,
                waiting = retired.waiting,
                "a handler is retired whose deliveries wait: they stay as they are"
            );
        }
        Ok(retired)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.installed {
            self.instance.stopping.send_replace(true);
            self.instance.aborting.send_replace(true);
            self.instance.close();
        }
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("installed", &self.0.installed).finish_non_exhaustive()
    }
}

/// Changes what was dead before this began, in steps between which others have their turn.
async fn in_steps<'s>(store: &Store, step: impl Fn(StoreTime) -> Pending<'s, Step>) -> Result<u64, StoreError> {
    let up_to = store.queue.clock().await?;
    let mut count = 0;
    loop {
        let done = step(up_to).await?;
        count += done.count;
        if !done.more {
            return Ok(count);
        }
        time::sleep(STEP_GAP).await;
    }
}

/// What became of a handler that was [retired](App::retire).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retired {
    /// It was in a catalogue until now.
    pub was_there: bool,
    /// Deliveries of it that are stored still, running ones included.
    pub waiting: u64,
}

/// A handler's deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Count {
    /// The handler's id.
    pub handler: String,
    /// Its event's id.
    pub event: String,
    /// Its route.
    pub route: Route,
    /// The queue of its deliveries, as it was recorded last; empty in process.
    pub queue: String,
    /// Whether this process has the handler.
    pub linked: bool,
    /// Stored and not running, delayed ones included.
    pub waiting: u64,
    /// Leased by a worker now.
    pub running: u64,
    /// Completed. For an in-process handler: calls that did not fail.
    pub done: u64,
    /// Failed attempts that were, or will be, tried again.
    pub retried: u64,
    /// How many became dead letters since the store was made, those that were requeued or discarded since included. Those that are
    /// there now: [`App::dead_letters_of`]. For an in-process handler: calls that failed.
    pub dead: u64,
    /// For how long the delivery that has waited longest has been due; `None` where none is due.
    pub due_for: Option<Duration>,
    /// Of those waiting and running, the ones that this process can run from where they are.
    left: u64,
}

impl Count {
    fn of(stored: StoredCount, linked: bool) -> Self {
        let StoredCount { handler, event, route, queue, waiting, running, done, retried, dead, due_for } = stored;
        let left = if linked { waiting + running } else { 0 };
        Self { handler, event, route, queue, linked, waiting, running, done, retried, dead, due_for, left }
    }

    fn add(&mut self, stored: &StoredCount, linked: bool) {
        self.linked |= linked;
        self.waiting += stored.waiting;
        self.running += stored.running;
        self.done += stored.done;
        self.retried += stored.retried;
        self.dead += stored.dead;
        self.due_for = self.due_for.max(stored.due_for);
        self.left += if linked { stored.waiting + stored.running } else { 0 };
    }
}

/// A queue's deliveries, in all stores.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueCount {
    /// The queue's name.
    pub queue: String,
    /// Nothing of it is started until it is resumed.
    pub paused: bool,
    /// Stored and not running, delayed ones included.
    pub waiting: u64,
    /// Leased by a worker now.
    pub running: u64,
    /// Completed.
    pub done: u64,
    /// Failed attempts that were, or will be, tried again.
    pub retried: u64,
    /// How many became dead letters since the store was made, as in [`Count::dead`].
    pub dead: u64,
    /// For how long the delivery that has waited longest has been due: the queue's delay. `None` where none is due.
    pub due_for: Option<Duration>,
}

impl QueueCount {
    fn new(queue: &str) -> Self {
        let queue = queue.to_owned();
        Self { queue, paused: false, waiting: 0, running: 0, done: 0, retried: 0, dead: 0, due_for: None }
    }

    fn add(&mut self, stored: &StoredCount) {
        self.waiting += stored.waiting;
        self.running += stored.running;
        self.done += stored.done;
        self.retried += stored.retried;
        self.dead += stored.dead;
        self.due_for = self.due_for.max(stored.due_for);
    }
}

/// The signals that ask a process to end.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    }
}
