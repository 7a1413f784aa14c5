//! The start: checks everything, opens the stores, spawns the loops that the role asks for.

use std::{
    any::TypeId,
    collections::BTreeSet,
    env,
    str::FromStr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::task::JoinSet;

use crate::{
    app::App,
    catalog::log_linked,
    context::States,
    error::{Error, ErrorKind, StoreError, in_one_line},
    instance::{self, Instance},
    origin::Traces,
    registry::{Linked, registry},
    relay::relay_until_stopped,
    store::{self, Feed, Outbox, Pending, QUEUE_DEFAULT, Queue, Retention, Route, Store, Term, placed},
    terms::Priority,
    watch::watch_catalogue,
    worker::{
        Shared, Worker,
        lease::{Keeper, Kept, Leases},
    },
};

/// The longest lease.
const LEASE_MAX: Duration = Duration::from_hours(24);

/// What `run()` was told.
pub(crate) struct Settings {
    pub states: States,
    /// What was wrong with the calls themselves.
    pub problems: Vec<String>,
    pub queue: Option<Queue>,
    pub outbox: Option<Pending<'static, Store>>,
    pub role: Option<Role>,
    pub grace: Duration,
    pub lease: Duration,
    pub queues: Option<Vec<String>>,
    pub retention: Retention,
    pub traces: Option<Box<dyn Traces>>,
    pub notifies: bool,
    pub install: bool,
    pub module: Option<String>,
    /// How often deliveries that nobody takes are looked for.
    pub look: Duration,
}

/// What a process does with stored deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Emits, and works off what is stored. The default.
    All,
    /// Emits only: a web process whose deliveries others run.
    Emit,
    /// A worker: another entry point of the same code. Refused when it links no handler on a stored route.
    Work,
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "emit" => Ok(Self::Emit),
            "work" => Ok(Self::Work),
            other => Err(format!("`EVENTED_ROLE={other}` is no role; write `all`, `emit` or `work`")),
        }
    }
}

/// Starts what the settings say, or says all that is wrong with them.
pub(crate) async fn start(mut run: Settings) -> Result<App, Error> {
    let mut problems = std::mem::take(&mut run.problems);
    let role = run.role.map_or_else(|| from_env("EVENTED_ROLE", &mut problems), Some).unwrap_or(Role::All);
    if run.install && instance::is_installed() {
        problems.push(
            "evented is started already in this process; stop the first, or start the second with `.install(false)`"
                .to_owned(),
        );
    }
    if run.lease > LEASE_MAX {
        problems.push(format!("`.lease({:?})` is too long: a killed worker's deliveries wait for its end", run.lease));
    }
    if run.lease < Duration::from_secs(1) {
        problems
            .push(format!("`.lease({:?})` is too short to be renewed in time; give it a second or more", run.lease));
    }
    let queues = run.queues.take().or_else(|| env_list("EVENTED_QUEUES"));
    let active: Box<[bool]> = registry().handlers.iter().map(|handler| run.takes(handler)).collect();
    let handlers: Vec<_> =
        registry().handlers.iter().zip(&active).filter(|(_, active)| **active).map(|(handler, _)| handler).collect();
    problems.extend(registry().duplicates());
    problems.extend(registry().unregistered());

    let before_outbox = problems.len();
    let outbox = match run.outbox.take() {
        Some(opening) => open(opening.await, &mut problems),
        None => match env_text("EVENTED_OUTBOX") {
            Some(url) => open(store::open_outbox(url).await, &mut problems),
            None => None,
        },
    };
    let outbox = outbox.map(placed::placed).and_then(Store::into_outbox);
    // An outbox that was given and could not be opened is one problem, not one for each handler.
    let outbox_failed = problems.len() > before_outbox;
    problems.extend(check_queues(&handlers, queues.as_deref()));
    problems.extend(check(&handlers, role, &run.states, outbox.as_ref(), outbox_failed));
    let queue = open_queue(run.queue.take(), &handlers, role, outbox.as_ref(), &mut problems).await;
    problems.extend(check_terms(&handlers, queue.as_ref(), outbox.as_ref()));
    if !problems.is_empty() {
        return Err(refuse(&problems));
    }

    let queues = queues.map(Arc::from);
    let instance = Arc::new(Instance::new(run.states, queue, outbox, active, run.retention, run.traces, run.notifies));
    if let Err(error) = instance.record().await {
        return Err(refuse(&[format!("the handlers could not be recorded in the stores: {}", in_one_line(&error))]));
    }
    if let Some(problem) = check_feed(&instance).await {
        return Err(refuse(&[problem]));
    }
    if run.install {
        instance::install(&instance)?;
    }
    log(&instance, &handlers, role);
    let work =
        spawn_work(&instance, role, run.lease, run.look, queues).inspect_err(|_| instance::uninstall(&instance))?;
    Ok(App::new(instance, run.grace, run.install, work))
}

impl Settings {
    fn takes(&self, handler: &Linked) -> bool {
        let Some(module) = &self.module else { return true };
        let rest = handler.place.module.strip_prefix(module.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    }
}

/// All problems in one text, each on a line of its own.
fn refuse(problems: &[String]) -> Error {
    let count = if problems.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", problems.len()) };
    Error::new(ErrorKind::Boot, format!("evented could not start: {count}\n  - {}", problems.join("\n  - ")))
}

fn env_text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|text| !text.is_empty())
}

/// A list with commas: `mail,default`.
fn env_list(name: &str) -> Option<Vec<String>> {
    let text = env_text(name)?;
    Some(text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect())
}

fn from_env<T: FromStr<Err = String>>(name: &str, problems: &mut Vec<String>) -> Option<T> {
    env_text(name)?.parse().map_err(|problem| problems.push(problem)).ok()
}

fn open<T>(opened: Result<T, StoreError>, problems: &mut Vec<String>) -> Option<T> {
    opened.map_err(|error| problems.push(in_one_line(&error))).ok()
}

/// Queues to work on that no handler is in: misspelt, or of a crate that is not linked.
fn check_queues(handlers: &[&Linked], queues: Option<&[String]>) -> Vec<String> {
    let known: BTreeSet<&str> =
        handlers.iter().filter_map(|handler| handler.stored).map(|stored| stored.queue).collect();
    let unknown = queues.into_iter().flatten().filter(|queue| !known.contains(queue.as_str()));
    let known = known.iter().map(|queue| format!("`{queue}`")).collect::<Vec<_>>().join(", ");
    let known = if known.is_empty() { "none".to_owned() } else { known };
    unknown
        .map(|queue| {
            format!("no handler that is linked here is in the queue `{queue}`, which `.queues(..)` or EVENTED_QUEUES names; the queues here: {known}")
        })
        .collect()
}

/// What the handlers need and do not find.
fn check(
    handlers: &[&Linked],
    role: Role,
    states: &States,
    outbox: Option<&Outbox>,
    outbox_failed: bool,
) -> Vec<String> {
    let mut problems = Vec::new();
    let database = outbox.map(|outbox| outbox.rows.database());
    if handlers.is_empty() && role != Role::Emit {
        problems.push(
            "no handler is registered; a crate that is in Cargo.toml but never named in code is not linked: write \
             `evented::link!(the_crate, ..);` for the crates with handlers, or start with `.role(Role::Emit)`"
                .to_owned(),
        );
    } else if role == Role::Work && handlers.iter().all(|handler| handler.stored.is_none()) {
        problems.push("a worker needs a handler on `background` or `outbox`, and none is registered".to_owned());
    }
    for handler in handlers {
        let who = format!("handler `{}` ({})", handler.id, handler.place);
        problems.extend(handler.lost_keys());
        let missing = |(id, _): &&(TypeId, &str)| !states.has(*id);
        for (_, state) in handler.needs.states.iter().filter(missing) {
            problems.push(format!("{who} takes `State<{state}>`; give `run()` one with `.state(..)`"));
        }
        if handler.needs.databases.len() > 1 {
            problems.push(format!("{who} takes `&mut Tx` more than once; a transaction has one user"));
        }
        if outbox_failed {
            continue;
        }
        let other = handler.needs.databases.iter().find(|(id, _)| Some(*id) != database);
        if let Some((_, name)) = other {
            problems.push(format!(
                "{who} takes `&mut Tx<{name}>`; give `run()` a pool of that database with `.outbox(pool)`"
            ));
        } else if outbox.is_none() && handler.route == Route::Outbox {
            problems.push(format!(
                "{who} is on the `outbox` route; give `run()` the application's pool with `.outbox(pool)`"
            ));
        } else if outbox.is_none() && handler.is_in_transaction() {
            problems
                .push(format!("{who} runs inside `emit_in`; give `run()` the application's pool with `.outbox(pool)`"));
        }
    }
    problems
}

/// Terms that a handler's store does not keep.
fn check_terms(handlers: &[&Linked], queue: Option<&Store>, outbox: Option<&Outbox>) -> Vec<String> {
    let mut problems = Vec::new();
    for handler in handlers {
        let store = match handler.route {
            Route::Background => queue,
            Route::Outbox => outbox.map(|outbox| &**outbox),
            Route::InProcess => None,
        };
        let (Some(store), Some(stored)) = (store, handler.stored) else { continue };
        let terms = stored.terms;
        let asked = [
            (terms.priority != Priority::Normal, Term::Priority),
            (terms.unique.is_some(), Term::Unique),
            (terms.ordered_by.is_some(), Term::Order),
        ];
        for (_, term) in asked.into_iter().filter(|(asks, term)| *asks && !store.about.keeps().contains(term)) {
            problems.push(format!(
                "handler `{}` ({}) asks for `{term}`, which its store {} does not keep; take it off, or name another queue",
                handler.id,
                handler.place,
                store.about.name()
            ));
        }
    }
    problems
}

/// Opens the queue where something may need it: it was named, a linked handler is stored in it, or another process made the
/// default one.
async fn open_queue(
    named: Option<Queue>,
    handlers: &[&Linked],
    role: Role,
    outbox: Option<&Outbox>,
    problems: &mut Vec<String>,
) -> Option<Store> {
    let named = named.or_else(|| env_text("EVENTED_QUEUE").map(|url| Queue::Url(url.into())));
    let url = match named {
        Some(Queue::Store(queue)) => return Some(placed::placed(queue)),
        Some(Queue::Url(url)) => url,
        None if handlers.iter().any(|handler| handler.route == Route::Background)
            || store::exists(&QUEUE_DEFAULT.into()) =>
        {
            QUEUE_DEFAULT.into()
        }
        None => {
            let catalogue = open(outbox?.catalogue.read().await, problems)?;
            if let Some(fed) = catalogue.handlers.iter().find(|entry| entry.route == Route::Background)
                && role != Role::Emit
            {
                // A queue made here would take what the handlers' workers look for in theirs.
                problems.push(format!(
                    "handler `{}` of another process is on `background`, and this process relays to it: name the queue that \
                     it has, with `.queue(url)` or EVENTED_QUEUE",
                    fed.handler
                ));
            }
            return None;
        }
    };
    if let Some(outbox) = outbox
        && !store::exists(&url)
        && let Some(fed) = open(outbox.rows.feed(Feed::Ask).await, problems)?
    {
        problems.push(format!(
            "the outbox {} feeds the queue `{fed}`, and there is no file at `{url}`: put it back, or name the queue that the \
             other processes have, with `.queue(url)` or EVENTED_QUEUE; where it is gone for good, and what waited in it, call \
             `evented::adopt(outbox, queue)` once, with the URLs of both",
            outbox.about.name()
        ));
        return None;
    }
    let queue = open(store::open_queue(url).await, problems)?;
    // One file is one store: two writers of one process would only wait for each other.
    match outbox {
        Some(outbox) if outbox.about.identity() == queue.about.identity() => {
            queue.about.close();
            Some(Store::clone(outbox))
        }
        _ => Some(placed::placed(queue)),
    }
}

/// An outbox that feeds another queue than this process names: what this process relayed would go where no worker of the others
/// looks for it.
async fn check_feed(instance: &Instance) -> Option<String> {
    let (queue, outbox) = instance.queue().zip(instance.outbox.as_ref())?;
    if let Err(error) = instance.ask_feed().await {
        return Some(format!("the outbox did not say which queue it feeds: {}", in_one_line(&error)));
    }
    let fed = instance.feeds().filter(|fed| *fed != queue.about.identity())?;
    Some(format!(
        "the outbox {} feeds the queue `{fed}`, and this process names another, {} (`{}`): name the queue that the other \
         processes have, with `.queue(url)` or EVENTED_QUEUE; or, where this one is to take its place and what waits in the \
         other may stay there, call `evented::adopt(outbox, queue)` once, with the URLs of both",
        outbox.about.name(),
        queue.about.name(),
        queue.about.identity()
    ))
}

/// One line for each crate, event and handler, one for each store with what it promises, and one for the start.
fn log(instance: &Instance, handlers: &[&Linked], role: Role) {
    log_linked();
    for handler in handlers {
        let queue = handler.stored.map(|stored| stored.queue);
        tracing::info!(handler = %handler.id, route = %handler.route, queue, place = %handler.place, "handler");
    }
    if let Some(queue) = instance.queue() {
        tracing::info!(
            store = queue.about.name(),
            promise = queue.about.promise(),
            "queue of the background deliveries"
        );
    }
    if let Some(outbox) = &instance.outbox {
        tracing::info!(store = outbox.about.name(), promise = outbox.about.promise(), "outbox, as your pool opens it");
    }
    tracing::info!(handlers = handlers.len(), ?role, "started");
}

/// Starts what the role says. The task ends after the last delivery is settled.
fn spawn_work(
    instance: &Arc<Instance>,
    role: Role,
    lease: Duration,
    look: Duration,
    queues: Option<Arc<[String]>>,
) -> Result<tokio::task::JoinHandle<()>, Error> {
    let shared = Shared {
        instance: Arc::clone(instance),
        lease,
        stopping: instance.stopping.subscribe(),
        aborting: instance.aborting.subscribe(),
        queues,
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(watch_catalogue(shared.clone(), look));
    let mut held = Vec::new();
    if role != Role::Emit {
        let mut stores = Vec::new();
        if let Some(outbox) = &instance.outbox {
            stores.push((Store::clone(outbox), Some(outbox.clone())));
        }
        if let Some(queue) = instance.queue()
            && !instance.is_one_store()
        {
            stores.push((queue.clone(), None));
        }
        for (store, outbox) in stores {
            let leases = Arc::new(Leases::new());
            let worker = Worker::new(shared.clone(), &store, outbox.clone(), Arc::clone(&leases));
            if let Some(outbox) = outbox {
                tasks.spawn(relay_until_stopped(shared.clone(), outbox, worker.clone()));
            }
            if let Some(worker) = worker {
                tasks.spawn(Arc::clone(&worker).clear_suspects());
                tasks.spawn(worker.work());
                let trouble = instance.health.watch(format!("renewing leases in {}", store.about.name()));
                held.push(Kept { store: store.queue, leases, trouble });
            }
        }
    }
    let keeper = Keeper::start(held, lease).map_err(|error| {
        Error::new(ErrorKind::Boot, "evented could not start the thread that renews leases").because(error)
    })?;
    let loops = Arc::clone(instance);
    let work = tokio::spawn(async move {
        let instance = loops;
        while let Some(ended) = tasks.join_next().await {
            // Before a stop no loop ends, unless it panicked: a bug of ours. What runs elsewhere would hide it.
            if !*instance.stopping.borrow() {
                let error = ended.err().map_or_else(|| "it returned".to_owned(), |error| error.to_string());
                tracing::error!(%error, "a loop of evented ended by itself; stopping, so that the process can be started again");
                instance.failed.store(true, Ordering::Relaxed);
                instance.stopping.send_replace(true);
            }
        }
        drop(keeper);
    });
    // An instance is worked for once.
    let _worked_for = instance.work.set(work.abort_handle());
    Ok(work)
}
