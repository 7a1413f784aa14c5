//! How many events a second go through the outbox, from the first emit to the last settlement, beside raw inserts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use evented::{App, EventId, Role, Transaction, sqlx::Pool};
use evented_tests::{
    clock,
    figures::{Line, median, per_second},
};
use tokio::{
    task::{JoinSet, block_in_place},
    time::{sleep, timeout},
};

use crate::{
    load::{Arrivals, Load, payload},
    trickle,
};

/// How many write at once.
const WRITERS: u64 = 4;
/// How long one measurement may take.
const DEADLINE: Duration = Duration::from_mins(5);

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Size {
    pub rounds: usize,
    pub events: u64,
    pub seconds: Duration,
}

/// What is measured.
#[derive(Clone, Copy)]
pub struct Case {
    pub per_transaction: u64,
    pub in_tx: bool,
}

/// Prints a line for each case.
pub async fn measure<Db: Load>(size: Size) -> anyhow::Result<()> {
    let Some(place) = block_in_place(Db::place) else { return Ok(()) };
    for (per_transaction, in_tx) in [(100, false), (1, false), (100, true), (1, true)] {
        let case = Case { per_transaction, in_tx };
        let events = match (per_transaction, in_tx) {
            (_, true) => size.events / 20,
            (1, false) => size.events / 10,
            (_, false) => size.events,
        };
        let (mut evented, mut raw, mut latencies) = (Vec::new(), Vec::new(), trickle::Figures::default());
        for _ in 0..size.rounds {
            let url = block_in_place(|| Db::database(&place));
            evented.push(per_second(events, through::<Db>(&url, case, events).await?));
            let url = block_in_place(|| Db::database(&place));
            raw.push(per_second(events, inserted::<Db>(&url, case, events).await?));
            let urls = block_in_place(|| [Db::database(&place), Db::database(&place)]);
            latencies.add(trickle::measure::<Db>(&urls, in_tx, size.seconds).await?);
        }
        Line::new("outbox-speed", Db::STORE)
            .with("per_transaction", per_transaction)
            .with("tx_handler", in_tx)
            .figure("events_per_second", median(&evented))
            .figure("raw_inserts_per_second", median(&raw))
            .figure("commit_to_handler_ms_p50", median(&latencies.p50))
            .figure("commit_to_handler_ms_p99", median(&latencies.p99))
            .figure("commit_ms", median(&latencies.commit))
            .print(true);
    }
    Ok(())
}

/// An instance as an application has it, of one handler alone.
pub async fn start<Db: Load>(
    url: &str,
    in_tx: bool,
    role: Role,
    arrivals: &Arrivals,
) -> anyhow::Result<(App, Pool<Db>)> {
    let pool = Db::pool(url).await?;
    Db::make_tables(&pool).await?;
    let module = if in_tx { Db::IN_TX } else { Db::PLAIN };
    let app = evented::run().module(module).state(arrivals.clone()).outbox(pool.clone()).role(role).await?;
    Ok((app, pool))
}

/// How long evented takes from the first emit to the last settlement.
async fn through<Db: Load>(url: &str, case: Case, events: u64) -> anyhow::Result<Duration> {
    let arrivals = Arrivals::default();
    let (app, pool) = start::<Db>(url, case.in_tx, Role::All, &arrivals).await?;
    let began = clock::now();
    let work = async {
        write(&pool, case.per_transaction, events, What::Event { in_tx: case.in_tx }).await?;
        // Counting the rows would be work beside them: it is asked only once all have run.
        while arrivals.count() < events {
            sleep(Duration::from_millis(1)).await;
        }
        while app.counts().await?.iter().any(|count| count.waiting + count.running > 0) {
            sleep(Duration::from_millis(1)).await;
        }
        anyhow::Ok(clock::since(began))
    };
    let took = timeout(DEADLINE, work).await.context("the events are not worked off")??;
    app.stop().await;
    Ok(took)
}

/// How long the rows alone take.
async fn inserted<Db: Load>(url: &str, case: Case, events: u64) -> anyhow::Result<Duration> {
    // The table is evented's own, and nobody relays from it.
    let (app, pool) = start::<Db>(url, case.in_tx, Role::Emit, &Arrivals::default()).await?;
    app.stop().await;
    let began = clock::now();
    write(&pool, case.per_transaction, events, What::Row).await?;
    Ok(clock::since(began))
}

/// What is written.
#[derive(Clone, Copy)]
enum What {
    Event { in_tx: bool },
    Row,
}

/// Writes so many, as fast as several writers can.
async fn write<Db: Load>(pool: &Pool<Db>, per_transaction: u64, events: u64, what: What) -> anyhow::Result<()> {
    let next = Arc::new(AtomicU64::new(0));
    let mut writing = JoinSet::new();
    for _ in 0..WRITERS {
        let (pool, next) = (pool.clone(), Arc::clone(&next));
        writing.spawn(async move {
            loop {
                let first = next.fetch_add(per_transaction, Ordering::Relaxed);
                if first >= events {
                    return anyhow::Ok(());
                }
                let mut tx = evented::begin(&pool).await?;
                for number in first..events.min(first + per_transaction) {
                    match what {
                        What::Event { in_tx } => Db::emit_placed(&mut tx, in_tx, number).await?,
                        What::Row => insert::<Db>(&mut tx, number).await?,
                    }
                }
                tx.commit().await?;
            }
        });
    }
    for written in writing.join_all().await {
        written?;
    }
    Ok(())
}

/// Inserts one row by hand.
pub async fn insert<Db: Load>(tx: &mut Transaction<Db>, number: u64) -> anyhow::Result<()> {
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis().try_into()?;
    Ok(Db::raw(tx, EventId::new().to_bytes(), unix_ms, &payload(number)).await?)
}
