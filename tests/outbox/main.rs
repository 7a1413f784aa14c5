//! The outbox: that an event happens if, and only if, its transaction commits, whatever is killed; and how fast it is.
//!
//! ```sh
//! cargo run --release -p evented-tests --bin outbox -- --store sqlite --kill
//! cargo run --release -p evented-tests --bin outbox -- --store sqlite --speed
//! ```
//!
//! `--kill`: writers commit and roll back at random, while they and the workers are killed at random, or stopped for longer
//! than a lease. One line of JSON: `committed` is how many events have their business row, `rolled_back` how many were emitted
//! in vain, `lost` how many of the committed some handler never handled, `ghosts` how many of the others some handler did
//! handle, `effects_twice` how many a handler with a `Tx` wrote more than once, `handled_twice_without_tx` how many another
//! handler handled more than once, which at least once allows. The program fails where something is lost, a ghost, or
//! written twice. Options: `--seconds 10` of load, longer where there were fewer than ten kills; `--seed` of what is
//! chosen, though not of what the machine makes of it; `--kill-server` kills the server now and then, too;
//! `--queue beside` has the queue in the outbox's database, not in a file elsewhere.
//!
//! `--speed`: a line for each number of events in a transaction, 1 and 100, without and with a `Tx` in the handler.
//! `events_per_second` counts from the first emit to the settlement of the last delivery, everything in one process at its
//! defaults; `raw_inserts_per_second` are inserts of such rows into that table with nothing else, by as many writers with as
//! many in a transaction; both alternate, and are medians of the rounds. `commit_to_handler_ms_p50` and `_p99` are of a
//! trickle, one transaction of one event each 10 ms: from the call of the commit to the handler's first line; `commit_ms` is
//! what the commit of one such row alone takes in the same minute. Options: `--rounds 3`, `--events 50000` with 100 in a
//! transaction, a tenth of it with 1, a twentieth with a `Tx`; `--seconds 3` of a trickle.
//!
//! `--store sqlite,postgres,mysql`; all of them unless it is given. A server that is not installed is skipped.

mod base;
mod notes;
mod load;
mod child;
mod kill;
mod judge;
mod speed;
mod trickle;

use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use evented::sqlx::{MySql, Postgres, Sqlite};
use evented_tests::{
    args::Args,
    children::{self, child_args},
    clock,
    figures::warn_of_debug,
};

use self::{
    base::Base as _,
    child::{Task, run},
    load::Load,
};

/// Calls a function for the database of a name.
macro_rules! of_store {
    ($store:expr, $call:ident($($arg:expr),*)) => {
        match $store {
            Sqlite::STORE => $call::<Sqlite>($($arg),*).await,
            Postgres::STORE => $call::<Postgres>($($arg),*).await,
            MySql::STORE => $call::<MySql>($($arg),*).await,
            other => bail!("`{other}` keeps no outbox here; there are {}", STORES.join(", ")),
        }
    };
}

/// Those that keep one.
const STORES: &[&str] = &[Sqlite::STORE, Postgres::STORE, MySql::STORE];

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    children::log_to_stderr();
    if let Some(args) = child_args() {
        let task: Task = serde_json::from_str(args.first().context("a child is told its task")?)?;
        of_store!(task.store.as_str(), run(&task))?;
        return Ok(ExitCode::SUCCESS);
    }
    let flags = ["json", "kill", "kill-server", "speed"];
    let args = Args::read(&flags, &["store", "seconds", "seed", "queue", "rounds", "events"])?;
    ensure!(args.has("kill") || args.has("speed"), "say `--kill` or `--speed`");
    warn_of_debug();
    let stores = args.get("store", STORES.join(","))?;
    let mut well = true;
    for store in stores.split(',') {
        well &= of_store!(store, measure(&args))?;
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether all was well.
async fn measure<Db: Load>(args: &Args) -> anyhow::Result<bool> {
    let mut well = true;
    if args.has("kill") {
        let plan = kill::Plan {
            seconds: args.seconds("seconds", 10.0)?,
            seed: args.get("seed", clock::nanos() % 1_000_000)?,
            kill_server: args.has("kill-server"),
            queue: args.get("queue", kill::Queue::Elsewhere)?,
        };
        well = kill::measure::<Db>(plan).await?;
    }
    if args.has("speed") {
        let size = speed::Size {
            rounds: args.get("rounds", 3)?,
            events: args.get("events", 50_000)?,
            seconds: args.seconds("seconds", 3.0)?,
        };
        speed::measure::<Db>(size).await?;
    }
    Ok(well)
}
