//! The look around: handlers that other processes added, and deliveries that nobody here can run.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::{
    error::in_one_line,
    instance::Instance,
    registry::names_of,
    store::{self, ONCE_COUNT, QUEUE_DEFAULT, Store, StoredCount},
    time::{self, Instant},
    worker::{Shared, runnable},
};

/// How often a process looks for handlers that others have added.
const CATALOGUE_LOOK: Duration = Duration::from_secs(1);
/// How often what waits for nobody is said again.
const UNKNOWN_LOOK: Duration = Duration::from_mins(1);
/// How often what is kept no longer is deleted: where something has happened since, and where nothing has.
const SWEEP: Duration = Duration::from_mins(1);
const SWEEP_IDLE: Duration = Duration::from_hours(1);
/// How long others have their turn between two steps of a sweep.
const SWEEP_GAP: Duration = Duration::from_millis(5);
/// How many settled deliveries are told at once.
const SETTLED: usize = 1_000;

/// Looks for handlers that other processes added, so that an event which nobody here needed stored gets stored for them.
/// An event that is stored anyway does not wait for this: its push notices the change. Also says what waits for nobody.
pub(crate) async fn watch_catalogue(shared: Shared) {
    let instance = &shared.instance;
    let mut stopping = shared.stopping.clone();
    let mut marks = (0, 0);
    let mut unknown = Unknown::default();
    let mut say_at = time::now();
    let mut swept_at = time::now();
    let mut busy = true;
    loop {
        tokio::select! {
            () = time::sleep(CATALOGUE_LOOK) => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        if instance.queue().is_none() && store::exists(QUEUE_DEFAULT) {
            open_queue(instance).await;
        } else if instance.lacks_queue() && time::now() >= say_at {
            // Never made here: the handlers' workers have it, perhaps elsewhere.
            say_at = time::after(UNKNOWN_LOOK);
            tracing::warn!(
                "handlers of other processes are on `background`, and this process has no queue: name theirs \
                            with `.queue(url)` or EVENTED_QUEUE"
            );
        }
        let queue = match instance.queue() {
            Some(queue) => queue.wait(marks.0, Duration::ZERO).await,
            None => 0,
        };
        let outbox = match &instance.outbox {
            Some(outbox) => outbox.wait(marks.1, Duration::ZERO).await,
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
        tell_settled(instance).await;
        if swept_at.elapsed() >= if busy { SWEEP } else { SWEEP_IDLE } {
            (swept_at, busy) = (time::now(), false);
            for store in instance.stores() {
                sweep(&shared, &*store).await;
            }
        }
        for store in instance.stores() {
            unknown.report(instance, &*store).await;
        }
    }
}

/// Tells the outbox's database which deliveries of the queue are settled that ran in it.
async fn tell_settled(instance: &Instance) {
    let Some(outbox) = &instance.outbox else { return };
    let settled = instance.take_settled();
    for (told, some) in settled.chunks(SETTLED).enumerate() {
        if let Err(error) = outbox.settled(some.to_vec()).await {
            tracing::debug!(error = %in_one_line(&error), "what has run could not be told to be settled; trying again");
            instance.note_settled(settled[told * SETTLED..].iter().copied());
            return;
        }
    }
}

/// Deletes what is kept no longer, in steps between which others have their turn.
async fn sweep(shared: &Shared, store: &dyn Store) {
    let mut dead_letters = 0;
    loop {
        match store.sweep(shared.instance.retention).await {
            Ok(swept) => {
                dead_letters += swept.dead_letters;
                if swept.forgotten_early > 0 {
                    tracing::warn!(
                        store = store.name(),
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
        tracing::info!(store = store.name(), dead_letters, "deleted dead letters that were kept for long enough");
    }
}

/// Opens the default queue that another process made. Nothing named a queue here and no linked handler is stored in one, or
/// it would have been opened at the start.
async fn open_queue(instance: &Instance) {
    let opened = async {
        let queue = store::open_queue(QUEUE_DEFAULT).await?;
        instance.take_queue(queue);
        instance.record().await?;
        instance.ask_feed().await
    };
    match opened.await {
        Ok(()) => tracing::info!(store = QUEUE_DEFAULT, "opened the queue for handlers of other processes"),
        Err(error) => tracing::warn!(error = %in_one_line(&error), "the queue could not be opened; trying again"),
    }
}

/// Deliveries whose handler this process does not have. They wait, at no cost of attempts; they are somebody else's, or
/// a crate is not linked, or a handler was renamed without an alias.
#[derive(Default)]
struct Unknown {
    /// When each store was last looked at, and what was found then.
    looked: HashMap<String, (Instant, HashSet<String>)>,
}

impl Unknown {
    /// Names handlers that were waited for at two looks in a row: at the first, another worker may be at it.
    async fn report(&mut self, instance: &Instance, store: &dyn Store) {
        let looked = self.looked.get(store.name());
        if looked.is_some_and(|(at, _)| at.elapsed() < UNKNOWN_LOOK) {
            return;
        }
        let (Ok(stats), Ok(catalogue)) = (store.stats().await, store.catalogue().await) else { return };
        let linked = names_of(runnable(instance));
        let unknown = |count: &StoredCount| {
            count.waiting > 0
                && !linked.contains_key(count.handler.as_str())
                && !catalogue.retired.contains(&count.handler)
        };
        let waiting: Vec<_> = stats.handlers.into_iter().filter(unknown).collect();
        for count in &waiting {
            if looked.is_some_and(|(_, before)| before.contains(&count.handler)) {
                tracing::warn!(handler = %count.handler, waiting = count.waiting, store = store.name(),
                    "deliveries wait for a handler that this process cannot run from this store; if no other can, link \
                     its crate, name it in the `aliases` of its new name, or take it off with `App::retire`");
            }
        }
        let found = waiting.into_iter().map(|count| count.handler).collect();
        self.looked.insert(store.name().to_owned(), (time::now(), found));
    }
}
