//! The processes that are killed: those that write, and those that relay and work.

use std::{
    ops::DerefMut,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use evented::{App, InTx, Role, sqlx::Pool};
use evented_tests::{children::until_dismissed, clock, dice::Dice};
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::JoinSet, time::sleep};

use crate::{load::Load, notes::Notes};

/// The shortest, so that what a killed process held goes on soon.
pub const LEASE: Duration = Duration::from_secs(1);
/// How many transactions of one writer are under way at once.
const AT_ONCE: usize = 4;
/// Between two transactions of one of these, at the most.
const PAUSE: Duration = Duration::from_millis(80);
/// How long a transaction does something else, at the most: where an engine lets many write, they commit in another order
/// than they began in.
const DAWDLE: Duration = Duration::from_millis(20);
/// How late an event is relayed that is delayed, at the most.
const DELAY: Duration = Duration::from_millis(500);
/// How long a start may fail: the server may be away, and the file of a SQLite locked by a process that is stopped, or by
/// one writer after the other, since nobody sees to their order.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts to start, as a supervisor would wait.
const AGAIN: Duration = Duration::from_millis(50);
/// More events than a transaction has. An event's number is that of its order and its place in it.
pub const EVENTS: i64 = 8;

/// How a transaction ended, as its writer knows it.
pub const COMMITTED: i64 = 1;
pub const ROLLED_BACK: i64 = 0;
/// It failed, and a failed commit may have happened.
pub const UNKNOWN: i64 = -1;

/// What a child is told.
#[derive(Clone, Serialize, Deserialize)]
pub struct Task {
    pub store: String,
    pub url: String,
    pub queue: String,
    pub folder: PathBuf,
    pub seed: u64,
    /// The number of a writer's first order. A worker has none.
    pub first: Option<i64>,
}

impl Task {
    /// Starts an instance for it.
    pub async fn start<Db: Load>(&self, role: Role) -> anyhow::Result<(App, Pool<Db>)> {
        let notes = Notes::open(&self.folder)?;
        let start = async || {
            let pool = Db::pool(&self.url).await?;
            let run = evented::run().module(Db::KILL).state(notes.clone()).queue(&self.queue).outbox(pool.clone());
            anyhow::Ok((run.lease(LEASE).role(role).await?, pool))
        };
        let began = clock::now();
        loop {
            match start().await {
                Err(error) if clock::since(began) < PATIENCE => {
                    tracing::debug!(%error, "a start failed");
                    sleep(AGAIN).await;
                }
                started => return started,
            }
        }
    }
}

/// The child.
pub async fn run<Db: Load>(task: &Task) -> anyhow::Result<()> {
    let role = if task.first.is_some() { Role::Emit } else { Role::Work };
    let (app, pool) = task.start::<Db>(role).await?;
    println!("ready");
    match task.first {
        Some(first) => write_until_dismissed(task, first, &pool).await?,
        None => until_dismissed().await,
    }
    app.stop().await;
    Ok(())
}

async fn write_until_dismissed<Db: Load>(task: &Task, first: i64, pool: &Pool<Db>) -> anyhow::Result<()> {
    let next = Arc::new(AtomicI64::new(first));
    let (dismissed, goes_on) = watch::channel(());
    let mut writing = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (next, goes_on, pool, seed) = (Arc::clone(&next), goes_on.clone(), pool.clone(), task.seed);
        let notes = Notes::open(&task.folder)?;
        writing.spawn(async move {
            while goes_on.has_changed().is_ok() {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let mut dice = Dice::new(seed, number.unsigned_abs());
                let events = if dice.one_in(3) { 2 + dice.below(4) } else { 1 };
                let order = Order { number, events: events.try_into()? };
                notes.begun.note(order.number, order.events)?;
                let ended = order.place(&pool, &mut dice).await.unwrap_or_else(|error| {
                    tracing::debug!(%error, "a transaction failed");
                    UNKNOWN
                });
                notes.ended.note(order.number, ended)?;
                sleep(dice.time(PAUSE)).await;
            }
            anyhow::Ok(())
        });
    }
    until_dismissed().await;
    drop(dismissed);
    for ended in writing.join_all().await {
        ended?;
    }
    Ok(())
}

/// A business row, and the events that exist if, and only if, it does.
struct Order {
    number: i64,
    events: i64,
}

impl Order {
    /// One transaction; how it ended.
    async fn place<Db: Load>(&self, pool: &Pool<Db>, dice: &mut Dice) -> anyhow::Result<i64> {
        let (commits, says_so) = (!dice.one_in(4), dice.one_in(2));
        // The one tells the relay at its commit, the other does not.
        if dice.one_in(3) {
            let mut tx = pool.begin().await?;
            self.write::<Db, _>(&mut tx, dice).await?;
            match (commits, says_so) {
                (true, _) => tx.commit().await?,
                (false, true) => tx.rollback().await?,
                (false, false) => drop(tx),
            }
        } else {
            let mut tx = evented::begin(pool).await?;
            self.write::<Db, _>(&mut tx, dice).await?;
            match (commits, says_so) {
                (true, _) => tx.commit().await?,
                (false, true) => tx.rollback().await?,
                (false, false) => drop(tx),
            }
        }
        Ok(if commits { COMMITTED } else { ROLLED_BACK })
    }

    async fn write<Db, T>(&self, tx: &mut T, dice: &mut Dice) -> anyhow::Result<()>
    where
        Db: Load,
        T: InTx<Db> + DerefMut<Target = Db::Connection>,
    {
        // In this order or the other.
        let row_at = dice.below(2) * self.events.unsigned_abs();
        for at in 0..=self.events {
            if at.unsigned_abs() == row_at {
                Db::write(&mut *tx, Db::ORDER, &[self.number, self.events]).await?;
            }
            if at < self.events {
                let delay = if dice.one_in(6) { dice.time(DELAY) } else { Duration::ZERO };
                Db::emit_ordered(tx, self.number * EVENTS + at).after(delay).await?;
            }
            if dice.one_in(6) {
                sleep(dice.time(DAWDLE)).await;
            }
        }
        Ok(())
    }
}
