//! The look around: handlers that other processes added, and deliveries that nobody here can run.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::{
    error::{StoreError, in_one_line},
    health::Trouble,
    instance::Instance,
    registry::names_of,
    store::{self, CatalogueState, ONCE_COUNT, QUEUE_DEFAULT, Stats, Store},
    time::{self, Instant},
    worker::{Shared, runnable},
};

/// How often a process looks for handlers that others have added.
const CATALOGUE_LOOK: Duration = Duration::from_secs(1);
/// How often a missing queue is said again.
const LACK_LOOK: Duration = Duration::from_mins(1);
/// How often what is kept no longer is deleted: where something has happened since, and where nothing has.
const SWEEP: Duration = Duration::from_mins(1);
const SWEEP_IDLE: Duration = Duration::from_hours(1);
/// How long others have their turn between two steps of a sweep.
const SWEEP_GAP: Duration = Duration::from_millis(5);
/// How many settled deliveries are told at once.
const SETTLED: usize = 1_000;

/// Looks for handlers that other processes added, so that an event which nobody here needed stored gets stored for them.
/// An event that is stored anyway does not wait for this: its push notices the change. Also says what waits for nobody.
pub(crate) async fn watch_catalogue(shared: Shared, look_each: Duration) {
    let instance = &shared.instance;
    let mut stopping = shared.stopping.clone();
    let mut marks = (0, 0);
    let mut looks: HashMap<String, Look> = HashMap::new();
    let mut say_at = time::now();
    let mut swept_at = time::now();
    let mut busy = true;
    loop {
        tokio::select! {
            () = time::sleep(CATALOGUE_LOOK) => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        if instance.queue().is_none() && store::exists(&QUEUE_DEFAULT.into()) {
            open_queue(instance).await;
        } else if instance.lacks_queue() && time::now() >= say_at {
            // Never made here: the handlers' workers have it, perhaps elsewhere.
            say_at = time::after(LACK_LOOK);
            tracing::warn!(
                "handlers of other processes are on `background`, and this process has no queue: name theirs \
                            with `.queue(url)` or EVENTED_QUEUE"
            );
        }
        let queue = match instance.queue() {
            Some(queue) => queue.queue.wait(marks.0, Duration::ZERO).await,
            None => 0,
        };
        let outbox = match &instance.outbox {
            Some(outbox) => outbox.queue.wait(marks.1, Duration::ZERO).await,
            None => 0,
        };
        if (queue, outbox) != marks {
            marks = (queue, outbox);
            busy = true;
            if let Err(error) = instance.refresh().await {
                tracing::debug!(error = %in_one_line(&error), "the catalogue could not be read; trying again");
                marks = (0, 0);
            }
        }
        if instance.outbox.is_some() && instance.queue().is_some() && instance.feeds().is_none() {
            // The queue was opened after the start, and not all was said then.
            take_queue(instance).await;
        }
        tell_settled(instance).await;
        if swept_at.elapsed() >= if busy { SWEEP } else { SWEEP_IDLE } {
            (swept_at, busy) = (time::now(), false);
            for store in instance.stores() {
                sweep(&shared, &store).await;
            }
        }
        for store in instance.stores() {
            let look = looks.entry(store.about.name().to_owned()).or_insert_with(|| Look::new(instance, &store));
            look.turn(instance, &store, look_each).await;
        }
    }
}

/// Tells the outbox's database which deliveries of the queue are settled that ran in it.
async fn tell_settled(instance: &Instance) {
    let Some(outbox) = &instance.outbox else { return };
    let settled = instance.take_settled();
    for (told, some) in settled.chunks(SETTLED).enumerate() {
        if let Err(error) = outbox.rows.settled(some.to_vec()).await {
            tracing::debug!(error = %in_one_line(&error), "what has run could not be told to be settled; trying again");
            instance.note_settled(settled[told * SETTLED..].iter().copied());
            return;
        }
    }
}

/// Deletes what is kept no longer, in steps between which others have their turn.
async fn sweep(shared: &Shared, store: &Store) {
    let Some(admin) = &store.admin else { return };
    let mut dead_letters = 0;
    loop {
        match admin.sweep(shared.instance.retention).await {
            Ok(swept) => {
                dead_letters += swept.dead_letters;
                if swept.forgotten_early > 0 {
                    tracing::warn!(
                        store = store.about.name(),
                        ids = swept.forgotten_early,
                        "more ids were emitted than are remembered, {ONCE_COUNT}: the oldest are forgotten before their 7 days"
                    );
                }
                if !swept.more || *shared.stopping.borrow() {
                    break;
                }
            }
            Err(error) => {
                tracing::debug!(error = %in_one_line(&error), "what is kept no longer could not be deleted; trying again");
                break;
            }
        }
        time::sleep(SWEEP_GAP).await;
    }
    if dead_letters > 0 {
        tracing::info!(store = store.about.name(), dead_letters, "deleted dead letters that were kept for long enough");
    }
}

/// Opens the default queue that another process made. Nothing named a queue here and no linked handler is stored in one, or
/// it would have been opened at the start.
async fn open_queue(instance: &Instance) {
    let opened = async {
        let queue = store::open_queue(QUEUE_DEFAULT).await?;
        instance.take_queue(queue);
        Ok::<_, StoreError>(())
    };
    match opened.await {
        Ok(()) => tracing::info!(store = QUEUE_DEFAULT, "opened the queue for handlers of other processes"),
        Err(error) => {
            tracing::warn!(error = %in_one_line(&error), "the queue could not be opened; trying again");
            return;
        }
    }
    take_queue(instance).await;
}

/// Records this process's handlers in a queue that was opened after the start, and asks the outbox whether it feeds it.
async fn take_queue(instance: &Instance) {
    let taken = async {
        instance.record().await?;
        instance.ask_feed().await
    };
    if let Err(error) = taken.await {
        tracing::warn!(error = %in_one_line(&error), "the queue could not be taken into use; trying again");
    }
}

/// What a process knows of the others' work from looking at the stores. It asks for counts once a minute, and in between only
/// whether a store answers, where that is in doubt.
struct Look {
    /// When to look again.
    at: Instant,
    /// How asking goes, on the board.
    trouble: Trouble,
    /// What was due at the last look while nobody ran any: by handler, how many had ended by then.
    idle: HashMap<String, u64>,
    /// The lines on the board that were put there by the last look.
    told: HashSet<String>,
}

impl Look {
    fn new(instance: &Instance, store: &Store) -> Self {
        let trouble = instance.health.watch(format!("looking into {}", store.about.name()));
        Self { at: time::now(), trouble, idle: HashMap::new(), told: HashSet::new() }
    }

    async fn turn(&mut self, instance: &Instance, store: &Store, each: Duration) {
        let emits = instance.queue().is_some_and(|queue| queue.about.name() == store.about.name())
            && instance.health.emits_in_doubt();
        let outbox = instance.outbox.as_ref().is_some_and(|outbox| outbox.about.name() == store.about.name());
        let doubted = emits || (outbox && instance.health.doubted());
        if time::now() < self.at && !doubted {
            return;
        }
        let counts = time::now() >= self.at;
        let asking = async {
            // The catalogue first: it is short, and tells as well whether the store answers.
            let catalogue = store.catalogue.read().await?;
            let stats = match &store.admin {
                Some(admin) if counts => Some(admin.stats().await?),
                _ => None,
            };
            Ok((catalogue, stats))
        };
        match self.trouble.ask(asking).await {
            Ok((catalogue, stats)) => {
                if emits {
                    instance.health.emitted(None);
                }
                if counts {
                    self.at = time::after(each);
                }
                if let Some(stats) = stats {
                    self.report(instance, store.about.name(), stats, &catalogue);
                }
            }
            Err((wait, _)) => self.at = time::after(wait),
        }
    }

    /// Names handlers whose deliveries were due at two looks in a row while none ran and none ended in between: nobody takes
    /// them. Which processes run is not known, so one look is not enough: at the first, a worker may be about to.
    fn report(&mut self, instance: &Instance, store: &str, stats: Stats, catalogue: &CatalogueState) {
        let linked = names_of(runnable(instance));
        let (mut idle, mut told) = (HashMap::new(), HashSet::new());
        for count in stats.handlers {
            let Some(due_for) = count.due_for.filter(|_| count.running == 0) else { continue };
            // What a person has stopped waits for that person.
            if stats.paused.contains(&count.queue) || catalogue.retired.contains(&count.handler) {
                continue;
            }
            let ended = count.done + count.retried + count.dead;
            if self.idle.get(&count.handler) == Some(&ended) {
                let cure = if linked.contains_key(count.handler.as_str()) {
                    "this process links the handler: see that one works on its queue and reads the payloads' version"
                } else {
                    "link the handler's crate in a worker, name it in the `aliases` of its new name, or take it off with \
                     `App::retire`"
                };
                let line = format!("running the deliveries of `{}` in {store}", count.handler);
                let error = format!(
                    "{} wait, one has been due for {due_for:?}, and no running process takes them; {cure}",
                    count.waiting
                );
                tracing::warn!(handler = %count.handler, waiting = count.waiting, ?due_for, store,
                    "deliveries are due that no running process takes; {cure}");
                instance.health.set(&line, Some(error));
                told.insert(line);
            }
            idle.insert(count.handler, ended);
        }
        for over in self.told.difference(&told) {
            instance.health.set(over, None);
        }
        (self.idle, self.told) = (idle, told);
    }
}
