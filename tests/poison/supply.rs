//! The supply of good events, so that there is always work.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use evented::App;
use evented_tests::dice::Dice;
use tokio::{task::JoinHandle, time::sleep};

use crate::child::{Effect, POISON, Swallowed};

/// So many deliveries wait in the store. And so many more for each death: what a dead worker held, which is fewer, may wait there
/// too, and not be taken like others.
const WAITING: u64 = 1_000;
/// Where a poison kills on and on, what waits does not grow without an end.
const DEATHS_MAX: u64 = 10;
/// How many are emitted at once at the most.
const EVENTS_MAX: u64 = 1_000;
/// How long a good handler takes at the most, and at the least.
const WORK_MAX: Duration = Duration::from_millis(10);
const WORK_MIN: Duration = Duration::from_millis(2);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Emits as much as is taken, until it is ended or dropped.
pub struct Supply {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    deaths: AtomicU64,
}

impl Supply {
    pub fn start(app: App, seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(supply(app, seed, Arc::clone(&shared)));
        Self { shared, task }
    }

    /// Emits no more.
    pub fn end(&self) {
        self.shared.ends.store(true, Relaxed);
    }

    /// A worker has died.
    pub fn note_death(&self) {
        self.shared.deaths.fetch_add(1, Relaxed);
    }

    /// Whether nothing more comes.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Supply {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn supply(app: App, seed: u64, shared: Arc<Shared>) {
    let mut next = POISON + 1;
    while !shared.ends.load(Relaxed) {
        let wanted = WAITING * (1 + shared.deaths.load(Relaxed).min(DEATHS_MAX));
        // A file that processes die over may be locked for a moment.
        if let Err(error) = top_up(&app, seed, wanted, &mut next).await {
            eprintln!("nothing could be supplied: {error}");
        }
        sleep(LOOK).await;
    }
}

async fn top_up(app: &App, seed: u64, wanted: u64, next: &mut u64) -> evented::Result<()> {
    let waiting: u64 = app.counts().await?.iter().map(|count| count.waiting).sum();
    let missing = wanted.saturating_sub(waiting).min(EVENTS_MAX);
    if missing == 0 {
        return Ok(());
    }
    let numbers = *next..*next + missing;
    *next = numbers.end;
    let good = |number| {
        let work = WORK_MIN + Dice::new(seed, number).time(WORK_MAX.saturating_sub(WORK_MIN));
        Swallowed { number, work, effect: Effect::None }
    };
    app.emit_all(numbers.map(good)).await
}
