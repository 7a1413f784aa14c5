//! One running evented: its state, its stores, who gets what. And which instance a free `emit` means.

use std::{
    cell::RefCell,
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
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
    error::{BoxError, Error, ErrorKind, HandlerResult, StoreError},
    health::Board,
    origin::{Cause, Traces},
    plan::Plans,
    registry::registry,
    store::{CatalogueEntry, CatalogueState, OutboxStore, Retention, Store, placed},
};

pub(crate) struct Instance {
    pub states: States,
    /// Empty while nothing needs a queue; the look around may open it later.
    queue: OnceLock<Arc<dyn Store>>,
    pub outbox: Option<Arc<dyn OutboxStore>>,
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
        queue: Option<Arc<dyn Store>>,
        outbox: Option<Arc<dyn OutboxStore>>,
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
            store.close();
        }
    }

    /// False when the runtime in which it was started has ended, and its loops with it.
    fn is_alive(&self) -> bool {
        self.work.get().is_none_or(|work| !work.is_finished())
    }

    pub(crate) fn queue(&self) -> Option<&Arc<dyn Store>> {
        self.queue.get()
    }

    /// Takes a queue that was opened after the start.
    pub(crate) fn take_queue(&self, queue: Arc<dyn Store>) {
        // The look around, which alone calls this, does so once.
        let _had_one = self.queue.set(placed::queue(queue));
    }

    /// Whether some handler, here or in another process, needs a queue that is not open here.
    pub(crate) fn lacks_queue(&self) -> bool {
        self.queue().is_none() && self.plans().has_background()
    }

    /// The stores, each once: the queue and the outbox may be one.
    pub(crate) fn stores(&self) -> Vec<Arc<dyn Store>> {
        let outbox = self.outbox.as_ref().map(|outbox| Arc::clone(outbox) as Arc<dyn Store>);
        let queue = self.queue().filter(|queue| outbox.as_ref().is_none_or(|outbox| outbox.name() != queue.name()));
        queue.cloned().into_iter().chain(outbox).collect()
    }

    pub(crate) fn plans(&self) -> Arc<Plans> {
        Arc::clone(&self.plans.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn is_stored(&self, event: usize) -> bool {
        self.events[event].stored.load(Ordering::Relaxed)
    }

    /// Reads the catalogues again and plans from them. What one store knows and the other does not is recorded there,
    /// so that each can keep deliveries of all handlers.
    pub(crate) async fn refresh(&self) -> Result<(), StoreError> {
        let queue = match self.queue() {
            Some(queue) => queue.catalogue().await?,
            None => CatalogueState::default(),
        };
        let outbox = match &self.outbox {
            Some(outbox) => outbox.catalogue().await?,
            None => CatalogueState::default(),
        };
        let (queue, outbox) = match (self.queue(), &self.outbox) {
            (Some(queue_store), Some(outbox_store)) => {
                let missing = |from: &CatalogueState, to: &CatalogueState| -> Arc<[CatalogueEntry]> {
                    let known = to.handlers.iter().map(|entry| &*entry.handler);
                    let known: HashSet<&str> = known.chain(to.retired.iter().map(String::as_str)).collect();
                    from.handlers.iter().filter(|entry| !known.contains(&*entry.handler)).cloned().collect()
                };
                let (to_outbox, to_queue) = (missing(&queue, &outbox), missing(&outbox, &queue));
                if to_outbox.is_empty() && to_queue.is_empty() {
                    (queue, outbox)
                } else {
                    outbox_store.record(to_outbox).await?;
                    queue_store.record(to_queue).await?;
                    (queue_store.catalogue().await?, outbox_store.catalogue().await?)
                }
            }
            _ => (queue, outbox),
        };
        let in_process = self.active_handlers().map(|index| &registry().handlers[index]);
        let in_process = in_process.filter(|handler| handler.stored.is_none()).map(|handler| Arc::clone(&handler.id));
        let events = &registry().events;
        let plans = Plans::unite(&self.own_entries(), &in_process.collect(), events, &queue, &outbox);
        let mut current = self.plans.write().unwrap_or_else(PoisonError::into_inner);
        // Two refreshes may end in the other order than they read.
        if current.queue_generation <= plans.queue_generation && current.outbox_generation <= plans.outbox_generation {
            for (state, event) in self.events.iter().zip(events) {
                let stored = plans.of(event.id).is_some_and(|plan| !plan.background.is_empty());
                state.stored.store(stored, Ordering::Relaxed);
            }
            *current = Arc::new(plans);
        }
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
    let mut running = match catch_unwind(AssertUnwindSafe(start)) {
        Ok(running) => running,
        Err(panic) => return Err(panicked(&*panic)),
    };
    std::future::poll_fn(move |cx| {
        catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx)))
            .unwrap_or_else(|panic| Poll::Ready(Err(panicked(&*panic))))
    })
    .await
}

/// A plain function's run, with its panic as its failure.
pub(crate) fn catch_sync(run: impl FnOnce() -> HandlerResult) -> HandlerResult {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(panicked(&*panic)))
}

/// A panic as an error, with its message.
pub(crate) fn panicked(panic: &(dyn std::any::Any + Send)) -> BoxError {
    let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", said.unwrap_or("with a value that is not text")).into()
}
