//! The load: what is emitted in each tick, and what becomes of dead letters.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use evented::{App, sqlx::Pool};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::base::{Base, Kind, PARTS};

/// Each tick emits its part of a second's events.
const TICK: Duration = Duration::from_millis(50);
/// How many events one transaction has.
const IN_TX: u64 = 10;
/// Of so many dead letters, one is asked for again, and the others are discarded.
const REQUEUED: usize = 3;

/// What the documentation promises to keep, so far.
#[derive(Clone, Copy, Default)]
pub struct Kept {
    /// Ids of `emit(..).id(..)`.
    pub ids: u64,
    /// Events of background handlers in a transaction.
    pub booked: u64,
}

/// The running load.
pub struct Load {
    running: JoinSet<anyhow::Result<()>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    ids: AtomicU64,
    booked: AtomicU64,
}

impl Load {
    /// Begins to emit so many events a second.
    pub fn start<Db: Base>(app: &App, pool: &Pool<Db>, rate: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let mut running = JoinSet::new();
        running.spawn(emit::<Db>(app.clone(), rate, Arc::clone(&shared)));
        running.spawn(pay(app.clone(), pool.clone(), rate, Arc::clone(&shared)));
        running.spawn(bury(app.clone(), Arc::clone(&shared)));
        Self { running, shared }
    }

    pub fn kept(&self) -> Kept {
        Kept { ids: self.shared.ids.load(Relaxed), booked: self.shared.booked.load(Relaxed) }
    }

    /// Ends it; an error where an emit failed.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.shared.ends.store(true, Relaxed);
        self.running.join_all().await.into_iter().collect()
    }
}

/// The kind of an event by its number; `None` for those of a transaction.
fn kind(number: u64) -> Option<Kind> {
    Some(match number % PARTS {
        0..8 => Kind::Plain,
        8..10 => Kind::Named,
        10..12 => Kind::Keyed,
        12 => Kind::Delayed,
        13 => Kind::Flaky,
        14..16 => Kind::Booked,
        _ => return None,
    })
}

async fn emit<Db: Base>(app: App, rate: u64, shared: Arc<Shared>) -> anyhow::Result<()> {
    let (mut ticks, mut numbers, mut owed) = (interval(TICK), 0.., 0);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !shared.ends.load(Relaxed) {
        ticks.tick().await;
        owed += rate * u64::try_from(TICK.as_millis())?;
        let mut emitting = JoinSet::new();
        for number in numbers.by_ref().take(usize::try_from(owed / 1000)?) {
            let Some(kind) = kind(number) else { continue };
            match kind {
                Kind::Named => shared.ids.fetch_add(1, Relaxed),
                Kind::Booked => shared.booked.fetch_add(1, Relaxed),
                _ => 0,
            };
            let app = app.clone();
            emitting.spawn(async move { Db::emit(&app, kind, number).await });
        }
        owed %= 1000;
        while let Some(emitted) = emitting.join_next().await {
            emitted??;
        }
    }
    Ok(())
}

async fn pay<Db: Base>(app: App, pool: Pool<Db>, rate: u64, shared: Arc<Shared>) -> anyhow::Result<()> {
    let (mut ticks, mut number, mut owed) = (interval(TICK), 0, 0);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let part = PARTS - (0..PARTS).filter_map(kind).count() as u64;
    while !shared.ends.load(Relaxed) {
        ticks.tick().await;
        owed += rate * u64::try_from(TICK.as_millis())? * part / PARTS;
        while owed >= IN_TX * 1000 {
            owed -= IN_TX * 1000;
            let mut tx = evented::begin(&pool).await?;
            for _ in 0..IN_TX {
                Db::pay(&app, &mut tx, number).await?;
                number += 1;
            }
            tx.commit().await?;
        }
    }
    Ok(())
}

/// Looks at the dead letters: some run again, the others go.
async fn bury(app: App, shared: Arc<Shared>) -> anyhow::Result<()> {
    let mut ticks = interval(Duration::from_secs(1));
    while !shared.ends.load(Relaxed) {
        ticks.tick().await;
        for (at, letter) in app.dead_letters().await?.into_iter().enumerate() {
            if at % REQUEUED == 0 {
                app.requeue(letter.id).await?;
            } else {
                app.discard(letter.id).await?;
            }
        }
    }
    Ok(())
}
