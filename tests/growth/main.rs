//! What grows with work: an application emits at a steady rate, over all ways in which rows and keys of evented's come and go,
//! and each of its tables and keys is measured three times.
//!
//! ```sh
//! cargo run --release -p evented-tests --bin growth -- --seconds 600 --rate 1000 --store sqlite
//! ```
//!
//! One line of JSON for each table, or kind of key, at a minute, at half of the time and at the end; a tenth of the time where
//! that is shorter than a minute: `rows`, which are the elements of a key, and `bytes` on the disk or in memory. Between them
//! `lag` lines: what waits, and for how long what waited longest has been due. Then a `verdict` for each: `grown` is by how
//! many rows it grew from half of the time to the end, `explained` how many of these the documentation promises to keep: the
//! ids of `emit(..).id(..)`, and what the inbox remembers. The program fails where a table is not `flat`, or where the
//! lag shows that there were more emits than the machine works off: then nothing is known.
//!
//! The queue is of the store that is asked for. The outbox is in another database, so that events are pushed from one to the
//! other: for `redis` in a file of SQLite.
//!
//! Options: `--store sqlite,postgres,redis`, `--seconds 600`, `--rate 1000` events a second.

mod base;
mod load;
mod tables;
mod verdict;

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use evented::{
    App,
    sqlx::{Postgres, Sqlite},
};
use evented_tests::{
    Place,
    args::Args,
    children, clock,
    figures::{Line, warn_of_debug},
    ground::{Aof, Engine, Ground},
};
use tokio::{task::block_in_place, time::sleep};

use self::{base::Base, load::Load, tables::Tables, verdict::Verdict};

/// Between two looks at what waits.
const LOOK: Duration = Duration::from_secs(5);
/// What waited longer than this at the end was not worked off as fast as it came.
const LAG_MAX: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    children::log_to_stderr();
    let args = Args::read(&["json"], &["store", "seconds", "rate"])?;
    let plan = Plan { seconds: args.seconds("seconds", 600.0)?, rate: args.get("rate", 1000)? };
    warn_of_debug();
    let mut flat = true;
    for engine in args.engines()? {
        let Some(ground) = block_in_place(|| Ground::start(engine, Aof::Everysec, &[])) else { continue };
        flat &= match engine {
            Engine::Postgres => {
                let outbox = block_in_place(|| ground.store());
                measure::<Postgres>(&ground, plan, &outbox).await?
            }
            Engine::Sqlite | Engine::Redis => {
                let place = Place::new();
                measure::<Sqlite>(&ground, plan, &format!("sqlite:{}", place.path("shop.db").display())).await?
            }
        };
    }
    Ok(if flat { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is asked for.
#[derive(Clone, Copy)]
struct Plan {
    seconds: Duration,
    rate: u64,
}

/// Whether all was flat.
async fn measure<Db: Base>(ground: &Ground, plan: Plan, outbox: &str) -> anyhow::Result<bool> {
    let queue = block_in_place(|| ground.store());
    let pool = Db::pool(outbox).await?;
    let run = evented::run().module(Db::HANDLERS).queue(&queue).outbox(pool.clone());
    let app = run.lease(Duration::from_secs(10)).await?;
    let store = ground.engine().name();
    let tables = Tables::of(ground, &queue, outbox).await?;
    let load = Load::start(&app, &pool, plan.rate);

    let marks = [plan.seconds.min(Duration::from_mins(10)) / 10, plan.seconds / 2, plan.seconds];
    let (began, mut verdict, mut worst) = (clock::now(), Verdict::default(), Duration::ZERO);
    for mark in marks {
        while clock::since(began) < mark {
            sleep(LOOK.min(mark.saturating_sub(clock::since(began)))).await;
            worst = lag(&app, store, clock::since(began)).await?;
        }
        verdict.add(tables.measure().await?, load.kept());
        verdict.print_last(store, mark);
    }
    load.stop().await.context("the load failed")?;
    app.stop().await;
    let flat = verdict.print(store);
    if worst > LAG_MAX {
        eprintln!("{store}: what waited was due for {worst:?} at the end; give a lower `--rate`");
    }
    Ok(flat && worst <= LAG_MAX)
}

/// Prints what waits, and answers for how long it has been due.
async fn lag(app: &App, store: &str, at: Duration) -> anyhow::Result<Duration> {
    let counts = app.counts().await?;
    let due_for = counts.iter().filter_map(|count| count.due_for).max().unwrap_or_default();
    Line::new("lag", store)
        .figure("at_s", at.as_secs_f64())
        .with("waiting", counts.iter().map(|count| count.waiting).sum::<u64>())
        .with("running", counts.iter().map(|count| count.running).sum::<u64>())
        .with("done", counts.iter().map(|count| count.done).sum::<u64>())
        .with("dead", counts.iter().map(|count| count.dead).sum::<u64>())
        .figure("due_for_s", due_for.as_secs_f64())
        .print(true);
    Ok(due_for)
}
