//! The load: two handlers, what they note, and a supply of their events that does not run dry.
//!
//! The handlers' queues are two, since the slots of a queue are 64: in one queue the slow deliveries would leave the quick ones
//! none.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use evented::{App, prelude::*};
use evented_tests::clock;
use serde::{Deserialize, Serialize};
use tokio::{task::JoinHandle, time::sleep};

/// As many slow handlers run at once as a queue has slots.
pub const SLOTS: usize = 64;
/// How long a slow handler takes.
pub const SLOW: Duration = Duration::from_secs(5);
/// How long a quick one takes: the handlers are what limits the rate, not the store, and some deliveries are claimed ahead.
const QUICK: Duration = Duration::from_millis(40);
/// How many deliveries of the quick handler wait in the store at any time.
const QUICK_WAITING: u64 = 2_000;
/// How many of the slow one: a round of all slots. What ran at the outage runs again after what waits.
const SLOW_WAITING: u64 = 64;
/// How often the supply is looked at.
const LOOK: Duration = Duration::from_millis(50);

#[event]
#[derive(Serialize, Deserialize)]
struct Hurried {
    number: u64,
}

#[event]
#[derive(Serialize, Deserialize)]
struct Lingered {
    number: u64,
}

#[handler(Hurried, background(queue = "quick"))]
async fn hurry(event: Hurried, book: State<Book>) {
    book.begin(event.number);
    sleep(QUICK).await;
    book.end(event.number);
}

#[handler(Lingered, background(queue = "slow"))]
async fn linger(event: Lingered, book: State<Book>) {
    let _running = book.begin_slow(event.number);
    sleep(SLOW).await;
    book.end(event.number);
}

/// What was emitted, and what ran.
#[derive(Clone, Default)]
pub struct Book(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    acknowledged: Vec<u64>,
    ran: HashMap<u64, Ran>,
    /// When each slow handler began that runs.
    slow: HashMap<u64, Duration>,
    ended: usize,
}

#[derive(Default)]
struct Ran {
    begun: usize,
    ended: bool,
}

/// A slow handler that runs, until it ends or is dropped.
struct Running {
    book: Book,
    number: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.book.pages().slow.remove(&self.number);
    }
}

/// What became of all events.
pub struct Fate {
    /// Acknowledged, and no handler of it came to its end.
    pub lost: usize,
    /// Its handler began more than once.
    pub twice: usize,
}

impl Book {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, number: u64) {
        self.pages().ran.entry(number).or_default().begun += 1;
    }

    fn begin_slow(&self, number: u64) -> Running {
        self.begin(number);
        self.pages().slow.insert(number, clock::now());
        Running { book: self.clone(), number }
    }

    fn end(&self, number: u64) {
        let mut pages = self.pages();
        pages.ran.entry(number).or_default().ended = true;
        pages.ended += 1;
    }

    /// How many slow handlers run that began no longer ago than this.
    pub fn slow_younger(&self, than: Duration) -> usize {
        self.pages().slow.values().filter(|began| clock::since(**began) <= than).count()
    }

    /// The events whose slow handlers run now.
    pub fn slow_running(&self) -> Vec<u64> {
        self.pages().slow.keys().copied().collect()
    }

    /// Whether a handler of each of these has come to its end.
    pub fn have_ended(&self, numbers: &[u64]) -> bool {
        let pages = self.pages();
        numbers.iter().all(|number| pages.ran.get(number).is_some_and(|ran| ran.ended))
    }

    /// How many handlers have come to their end, repetitions included.
    pub fn ended(&self) -> usize {
        self.pages().ended
    }

    /// What became of all events so far.
    pub fn fate(&self) -> Fate {
        let pages = self.pages();
        let has_ended = |number: &&u64| pages.ran.get(number).is_some_and(|ran| ran.ended);
        Fate {
            lost: pages.acknowledged.len() - pages.acknowledged.iter().filter(has_ended).count(),
            twice: pages.ran.values().filter(|ran| ran.begun > 1).count(),
        }
    }
}

/// Emits as much as is taken, until it is ended.
pub struct Supply {
    ends: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Supply {
    pub fn start(app: App, book: Book) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(supply(app, book, Arc::clone(&ends)));
        Self { ends, task }
    }

    pub async fn end(self) -> anyhow::Result<()> {
        self.ends.store(true, Relaxed);
        Ok(self.task.await?)
    }
}

async fn supply(app: App, book: Book, ends: Arc<AtomicBool>) {
    let mut next = 0;
    while !ends.load(Relaxed) {
        // While the store is away it cannot be read, or not be written to.
        if let Err(error) = top_up(&app, &book, &mut next).await {
            tracing::debug!(%error, "nothing could be supplied");
        }
        sleep(LOOK).await;
    }
}

async fn top_up(app: &App, book: &Book, next: &mut u64) -> evented::Result<()> {
    let counts = app.counts().await?;
    let missing = |queue: &str, wanted: u64| {
        let waiting: u64 = counts.iter().filter(|count| count.queue == queue).map(|count| count.waiting).sum();
        wanted.saturating_sub(waiting)
    };
    // What failed may be stored or not: its numbers are not used again, and nobody was promised anything.
    let mut numbers = |missing: u64| {
        let numbers = *next..*next + missing;
        *next = numbers.end;
        numbers
    };
    let slow = numbers(missing("slow", SLOW_WAITING));
    if !slow.is_empty() {
        app.emit_all(slow.clone().map(|number| Lingered { number })).await?;
        book.pages().acknowledged.extend(slow);
    }
    let quick = numbers(missing("quick", QUICK_WAITING));
    if !quick.is_empty() {
        app.emit_all(quick.clone().map(|number| Hurried { number })).await?;
        book.pages().acknowledged.extend(quick);
    }
    Ok(())
}
