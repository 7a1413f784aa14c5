//! One running evented: its state, its stores, who gets what. And which instance a free `emit` means.

use std::{
    cell::RefCell,
    collections::HashSet,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
};

use tokio::{sync::watch, task::AbortHandle};

use crate::{
    context::States,
    error::{BoxError, Error, ErrorKind, HandlerResult, StoreError, Written},
    guard::{Guarded, guarded},
    health::Board,
    id::DeliveryId,
    origin::{Cause, Traces},
    plan::Plans,
    registry::registry,
    store::{
        CatalogueEntry, CatalogueState, Feed, Identity, Outbox, Record, Retention, Store, StoreTime, Swap, placed,
    },
    time::{self, Instant},
};

/// How often a change of the catalogue is tried again that another process came before.
const SWAPS_MAX: usize = 20;
/// How many settled deliveries wait to be told to the database that they ran in.
const SETTLED_MAX: usize = 100_000;

pub(crate) struct Instance {
    pub states: States,
    /// Empty while nothing needs a queue; the look around may open it later.
    queue: OnceLock<Store>,
    pub outbox: Option<Outbox>,
    /// By the registry's handlers: whether this instance runs it.
    pub active: Box<[bool]>,
    /// By the registry's events.
    pub events: Box<[EventState]>,
    /// By the registry's handlers: calls of `in_transaction` handlers.
    pub calls: Box<[AtomicU64]>,
    /// By the registry's handlers: failures of in-process handlers.
    pub failures: Box<[AtomicU64]>,
    /// Blocking handlers that run, also those whose time is up.
    pub blocking: Blocking,
    /// True: workers and relay take nothing more.
    pub stopping: watch::Sender<bool>,
    /// True: grace is over, what still runs is dropped.
    pub aborting: watch::Sender<bool>,
    /// Emits are refused.
    pub stopped: AtomicBool,
    /// A loop ended by itself.
    pub failed: AtomicBool,
    /// The task that all loops end in.
    pub work: OnceLock<AbortHandle>,
    /// Whether the loops make progress.
    pub health: Board,
    /// How long dead letters are kept.
    pub retention: Retention,
    pub traces: Option<Box<dyn Traces>>,
    /// Transactions of the application's notify at their commit, where their database can.
    pub notifies: bool,
    plans: RwLock<Arc<Plans>>,
    /// Held by the one who reads the catalogues, with when the last one began that came to its end.
    refreshing: tokio::sync::Mutex<Option<Instant>>,
    /// When the process began, for what was retired after that.
    created: Instant,
    /// Which queue the outbox feeds, as it said last.
    feeds: Mutex<Option<Identity>>,
    /// Deliveries of the queue that ran in the outbox's database and are settled, until that is told.
    settled: Mutex<Vec<DeliveryId>>,
}

/// What an emit reads of its event, without a lock.
#[derive(Default)]
pub(crate) struct EventState {
    /// Some handler, here or in another process, is on a stored route.
    stored: AtomicBool,
    /// Emits whose in-process handlers ran.
    pub emitted: AtomicU64,
}

impl Instance {
    pub(crate) fn new(
        states: States,
        queue: Option<Store>,
        outbox: Option<Outbox>,
        active: Box<[bool]>,
        retention: Retention,
        traces: Option<Box<dyn Traces>>,
        notifies: bool,
    ) -> Self {
        Self {
            states,
            queue: queue.map_or_else(OnceLock::new, OnceLock::from),
            outbox,
            events: registry().events.iter().map(|_| EventState::default()).collect(),
            calls: registry().handlers.iter().map(|_| AtomicU64::new(0)).collect(),
            failures: registry().handlers.iter().map(|_| AtomicU64::new(0)).collect(),
            active,
            blocking: Blocking::default(),
            stopping: watch::Sender::new(false),
            aborting: watch::Sender::new(false),
            stopped: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            work: OnceLock::new(),
            health: Board::default(),
            retention,
            traces,
            notifies,
            plans: RwLock::default(),
            refreshing: tokio::sync::Mutex::default(),
            created: time::now(),
            feeds: Mutex::default(),
            settled: Mutex::default(),
        }
    }

    /// The linked handlers on stored routes that this instance runs, as the catalogue records them.
    pub(crate) fn own_entries(&self) -> Vec<CatalogueEntry> {
        self.active_handlers().filter_map(|index| registry().handlers[index].entry()).collect()
    }

    pub(crate) fn active_handlers(&self) -> impl Iterator<Item = usize> {
        self.active.iter().enumerate().filter(|(_, active)| **active).map(|(index, _)| index)
    }

    /// Refuses further emits, and lets the stores rest.
    pub(crate) fn close(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        for store in self.stores() {
            store.about.close();
        }
    }

    /// False when the runtime in which it was started has ended, and its loops with it.
    fn is_alive(&self) -> bool {
        self.work.get().is_none_or(|work| !work.is_finished())
    }

    pub(crate) fn queue(&self) -> Option<&Store> {
        self.queue.get()
    }

    /// Takes a queue that was opened after the start.
    pub(crate) fn take_queue(&self, queue: Store) {
        // The look around, which alone calls this, does so once.
        let _had_one = self.queue.set(placed::placed(queue));
    }

    /// Whether some handler, here or in another process, needs a queue that is not open here.
    pub(crate) fn lacks_queue(&self) -> bool {
        self.queue().is_none() && self.plans().has_background()
    }

    /// The stores, each once: the queue and the outbox may be one.
    pub(crate) fn stores(&self) -> Vec<Store> {
        let outbox = self.outbox.as_deref().cloned();
        let queue = self.queue().filter(|_| !self.is_one_store());
        queue.cloned().into_iter().chain(outbox).collect()
    }

    /// Whether the queue and the outbox are one store, by what they are.
    pub(crate) fn is_one_store(&self) -> bool {
        self.queue()
            .zip(self.outbox.as_ref())
            .is_some_and(|(queue, outbox)| queue.about.identity() == outbox.about.identity())
    }

    /// The queue that the outbox feeds, where that is known.
    pub(crate) fn feeds(&self) -> Option<Identity> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the outbox which queue it feeds, and writes this process's where none is written.
    pub(crate) async fn ask_feed(&self) -> Result<(), StoreError> {
        let Some(outbox) = &self.outbox else { return Ok(()) };
        let feed = self.queue().map_or(Feed::Ask, |queue| Feed::First(queue.about.identity()));
        *self.feeds.lock().unwrap_or_else(PoisonError::into_inner) = outbox.rows.feed(feed).await?;
        Ok(())
    }

    /// Notes deliveries of the queue that ran in the outbox's database and are settled. Those beyond the limit are remembered
    /// there for longer than they need be.
    pub(crate) fn note_settled(&self, deliveries: impl IntoIterator<Item = DeliveryId>) {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.extend(deliveries);
        settled.truncate(SETTLED_MAX);
    }

    /// Takes them, to be told.
    pub(crate) fn take_settled(&self) -> Vec<DeliveryId> {
        std::mem::take(&mut *self.settled.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn plans(&self) -> Arc<Plans> {
        Arc::clone(&self.plans.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn is_stored(&self, event: usize) -> bool {
        self.events[event].stored.load(Ordering::Relaxed)
    }

    /// Records this process's handlers in both catalogues, and plans from what all processes recorded.
    pub(crate) async fn record(&self) -> Result<(), StoreError> {
        let entries = self.own_entries();
        for store in self.stores() {
            self.record_in(&store, |_| entries.clone()).await?;
        }
        self.refresh().await
    }

    /// Records what `wanted` says of the catalogue as it is, again where another process came before; answers the
    /// catalogue as it is then.
    async fn record_in(
        &self,
        store: &Store,
        wanted: impl Fn(&CatalogueState) -> Vec<CatalogueEntry>,
    ) -> Result<CatalogueState, StoreError> {
        let mut began = None;
        for _ in 0..SWAPS_MAX {
            let read = store.catalogue.read().await?;
            let handlers = wanted(&read);
            let is_new = |entry: &CatalogueEntry| !read.handlers.contains(entry);
            if !handlers.iter().any(is_new) {
                return Ok(read);
            }
            let began = if let Some(began) = began {
                began
            } else {
                let clock = store.queue.clock().await?;
                *began.insert(StoreTime(clock.0.saturating_sub(time::millis(self.created.elapsed()))))
            };
            let record = Record { generation: read.generation, began, handlers: handlers.into() };
            if store.catalogue.record(record).await? == Swap::Done(()) {
                return store.catalogue.read().await;
            }
        }
        Err(StoreError::transient("the catalogue of handlers changes faster than it can be written", Written::Nothing))
    }

    /// Takes a handler from the catalogue of a store; answers whether it was there.
    pub(crate) async fn retire_in(&self, store: &Store, handler: &str) -> Result<bool, StoreError> {
        for _ in 0..SWAPS_MAX {
            let read = store.catalogue.read().await?;
            if let Swap::Done(was_there) = store.catalogue.retire(handler.to_owned(), read.generation).await? {
                return Ok(was_there);
            }
        }
        Err(StoreError::transient("the catalogue of handlers changes faster than it can be written", Written::Nothing))
    }

    /// Reads the catalogues again and plans from them. What one store knows and the other does not is recorded there,
    /// so that each can keep deliveries of all handlers; and so is what this process has and a store has lost.
    ///
    /// One at a time: who comes while another reads waits for it, and reads again only where that one began before.
    pub(crate) async fn refresh(&self) -> Result<(), StoreError> {
        let asked = time::now();
        let mut refreshed = self.refreshing.lock().await;
        if refreshed.is_some_and(|began| began >= asked) {
            return Ok(());
        }
        let began = time::now();
        self.read_and_plan().await?;
        *refreshed = Some(began);
        Ok(())
    }

    async fn read_and_plan(&self) -> Result<(), StoreError> {
        let own = self.own_entries();
        // What was retired stays so: it is back where a process that has it is started.
        let absent = |from: &[CatalogueEntry], to: &CatalogueState| -> Vec<CatalogueEntry> {
            let known = to.handlers.iter().map(|entry| &*entry.handler);
            let known: HashSet<&str> = known.chain(to.retired.iter().map(String::as_str)).collect();
            from.iter().filter(|entry| !known.contains(&*entry.handler)).cloned().collect()
        };
        let outbox = self.outbox.as_ref().filter(|_| !self.is_one_store());
        let (queue, outbox) = match (self.queue(), outbox) {
            (Some(queue), None) => {
                let state = self.record_in(queue, |read| absent(&own, read)).await?;
                let outbox = if self.outbox.is_some() { state.clone() } else { CatalogueState::default() };
                (state, outbox)
            }
            (None, Some(outbox)) => {
                (CatalogueState::default(), self.record_in(outbox, |read| absent(&own, read)).await?)
            }
            (Some(queue), Some(outbox)) => {
                let of_queue = queue.catalogue.read().await?;
                let known = |of: &CatalogueState| [&own[..], &of.handlers].concat();
                let of_queue_known = known(&of_queue);
                let of_outbox = self.record_in(outbox, |read| absent(&of_queue_known, read)).await?;
                let of_outbox_known = known(&of_outbox);
                (self.record_in(queue, |read| absent(&of_outbox_known, read)).await?, of_outbox)
            }
            (None, None) => (CatalogueState::default(), CatalogueState::default()),
        };
        // With a queue that was opened a moment ago, after the handlers are recorded in it.
        if self.feeds().is_some() || self.queue().is_none() {
            self.ask_feed().await?;
        }
        let in_process = self.active_handlers().map(|index| &registry().handlers[index]);
        let in_process = in_process.filter(|handler| handler.stored.is_none()).map(|handler| Arc::clone(&handler.id));
        let events = &registry().events;
        let plans = Plans::unite(&own, &in_process.collect(), events, &queue, &outbox);
        for (state, event) in self.events.iter().zip(events) {
            let stored = plans.of(event.id).is_some_and(|plan| !plan.background.is_empty());
            state.stored.store(stored, Ordering::Relaxed);
        }
        *self.plans.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(plans);
        Ok(())
    }
}

/// Blocking handlers that run, by their place in the registry: nothing but the end of the process ends them.
#[derive(Default)]
pub(crate) struct Blocking(watch::Sender<Vec<usize>>);

impl Blocking {
    pub(crate) fn enter(&self, handler: usize) {
        self.0.send_modify(|running| running.push(handler));
    }

    pub(crate) fn leave(&self, handler: usize) {
        self.0.send_modify(|running| {
            if let Some(at) = running.iter().position(|running| *running == handler) {
                running.swap_remove(at);
            }
        });
    }

    /// The ids of the handlers that run now, each once.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.0.borrow().iter().map(|handler| &*registry().handlers[*handler].id).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(crate) async fn until_none(&self) {
        let mut running = self.0.subscribe();
        // The sender is our own, so waiting cannot fail.
        let _none = running.wait_for(Vec::is_empty).await;
    }
}

/// What the code that runs now belongs to: a handler's task, also on the blocking pool.
#[derive(Clone)]
pub(crate) struct Scope {
    pub instance: Arc<Instance>,
    /// The event whose handler this is.
    pub cause: Option<Cause>,
    /// The running handler holds a write transaction on the outbox's database.
    pub in_tx: bool,
}

tokio::task_local! {
    pub(crate) static SCOPE: Scope;
}

/// The process-wide instance. Read through `CACHED`, so that an emit takes no lock: a thread looks here again only when
/// the generation moved.
static INSTALLED: Mutex<Option<Arc<Instance>>> = Mutex::new(None);
static GENERATION: AtomicU64 = AtomicU64::new(1);

type Cached = (u64, Option<Rc<Arc<Instance>>>);
thread_local! {
    static CACHED: RefCell<Cached> = const { RefCell::new((0, None)) };
}

/// Makes `instance` the process-wide one, or says that there is one.
pub(crate) fn install(instance: &Arc<Instance>) -> Result<(), Error> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if installed.as_ref().is_some_and(|installed| installed.is_alive()) {
        return Err(Error::new(
            ErrorKind::Boot,
            "evented is started already in this process; stop the first, or start the second with `.install(false)`",
        ));
    }
    *installed = Some(Arc::clone(instance));
    GENERATION.fetch_add(1, Ordering::Release);
    Ok(())
}

/// Takes `instance` back, if it is the process-wide one.
pub(crate) fn uninstall(instance: &Arc<Instance>) {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if installed.as_ref().is_some_and(|other| Arc::ptr_eq(other, instance)) {
        *installed = None;
        GENERATION.fetch_add(1, Ordering::Release);
    }
}

/// Whether a process-wide instance is there: asked before a second one opens its stores.
pub(crate) fn is_installed() -> bool {
    INSTALLED.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|installed| installed.is_alive())
}

/// The process-wide instance, without a lock or an atomic increment while it stays the same.
#[expect(
    clippy::redundant_allocation,
    reason = "an `Rc` is cloned without an atomic, and the `Arc` is what others hold"
)]
pub(crate) fn installed() -> Option<Rc<Arc<Instance>>> {
    let generation = GENERATION.load(Ordering::Acquire);
    CACHED
        .with(|cached| {
            let (seen, instance) = &*cached.borrow();
            (*seen == generation).then(|| instance.clone())
        })
        .unwrap_or_else(|| {
            let instance = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner).clone().map(Rc::new);
            CACHED.with(|cached| cached.replace((generation, instance.clone())));
            instance
        })
}

/// The instance whose handler is running, if one is.
pub(crate) fn scope() -> Option<Scope> {
    SCOPE.try_with(Clone::clone).ok()
}

/// Starts a handler's future and runs it, with a panic of either as its failure. The handler is dropped after a panic, so
/// nothing sees what it left half-done except through shared state, which is as with any panic of a thread.
pub(crate) async fn catch<'a, T>(
    start: impl FnOnce() -> Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send + 'a>>,
) -> Result<T, BoxError> {
    let mut running = Guarded::new(guarded(start)?);
    std::future::poll_fn(move |cx| {
        guarded(|| running.as_mut().poll(cx)).unwrap_or_else(|panic| Poll::Ready(Err(panic.into())))
    })
    .await
}

/// A plain function's run, with its panic as its failure.
pub(crate) fn catch_sync(run: impl FnOnce() -> HandlerResult) -> HandlerResult {
    guarded(run)?
}
