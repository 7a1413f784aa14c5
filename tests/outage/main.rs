//! What an outage costs that is longer than a lease: how soon a worker is back at its full rate, and how many of its deliveries
//! are suspected of a death that nobody died.
//!
//! ```sh
//! cargo run --release -p evented-tests --bin outage -- --store postgres
//! ```
//!
//! One worker runs 64 slow deliveries, with handlers of 5 seconds, and beside them quick ones with handlers of 40 ms, in a queue
//! of their own: 64 at once, too, and some claimed ahead. A supply keeps 2,000 of the quick and 64 of the slow ones waiting.
//! When all the slow handlers have just begun, the store goes away for two leases: a server behind a proxy, which cuts the
//! connections or lets them hang; the file of a SQLite by another connection that holds its write lock.
//!
//! One line of JSON for each store: `rate_before` is how many deliveries of both kinds were settled in a second, over two rounds
//! of the slow ones. `seconds_to_full_rate` counts from the store's return to the end of the first whole second in which at
//! least 90 % of that were settled, and after whose beginning no ten seconds had fewer, until ten seconds after all that the outage
//! interrupted had run: it is 1 at the least, and `null` where it did not come within ten minutes. `suspects` is how many
//! deliveries the log says were run as suspects of a death, `lost` how many acknowledged ones never ran to their end, `twice`
//! how many began more than once. The program fails where something was lost, or the full rate was not there within a lease and
//! 5 seconds.
//!
//! Options: `--store sqlite,postgres,redis`, `--lease-seconds 3`, `--by cut` or `--by hang` for servers.

mod away;
mod load;
mod rate;
mod suspects;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, ensure};
use evented::prelude::*;
use evented_tests::{
    args::Args,
    clock,
    figures::{Line, warn_of_debug},
    ground::{Aof, Ground},
};
use tokio::time::{sleep, timeout};

use self::{
    away::{By, Way},
    load::{Book, Fate, SLOTS, SLOW, Supply},
    rate::Rate,
    suspects::Suspects,
};

/// How long it may take until all slots run slow handlers.
const PATIENCE: Duration = Duration::from_mins(1);
/// A slow handler that began within this time outlives its lease, and most of an outage.
const YOUNG: Duration = Duration::from_secs(1);
/// How long the worker comes to its pace before its rate is measured.
const PACE: Duration = Duration::from_secs(2);
/// For how long a rate is taken: two rounds of the slow handlers.
const STEADY: Duration = SLOW.saturating_mul(2);
/// What part of the rate before is the full rate.
const FULL: f64 = 0.9;
/// Beside a lease, how long the full rate may be in coming.
const GRACE: Duration = Duration::from_secs(5);
/// How long it is waited for.
const RETURN_MAX: Duration = Duration::from_mins(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let suspects = Suspects::listen();
    let args = Args::read(&["json"], &["store", "lease-seconds", "by"])?;
    let lease = args.seconds("lease-seconds", 3.0)?;
    let by = args.get("by", By::Cut)?;
    warn_of_debug();
    let mut well = true;
    for engine in args.engines()? {
        let Some(ground) = Ground::start(engine, Aof::Everysec, &[]) else { continue };
        let outage = measure(&ground, by, lease, &suspects).await.with_context(|| engine.to_string())?;
        outage.line.print(true);
        for problem in &outage.problems {
            eprintln!("{engine}: {problem}");
        }
        well &= outage.problems.is_empty();
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Outage {
    line: Line,
    problems: Vec<String>,
}

async fn measure(ground: &Ground, by: By, lease: Duration, suspects: &Suspects) -> anyhow::Result<Outage> {
    let mut way = Way::to(ground, by).await;
    let book = Book::default();
    let run = || evented::run().install(false).state(book.clone()).lease(lease);
    let aside = run().role(Role::Emit).queue(&way.direct).await?;
    let worker = run().role(Role::Work).queue(&way.url).await?;
    let supply = Supply::start(aside.clone(), book.clone());
    let rate = Rate::watch(aside.clone());

    all_slots_began(&book).await?;
    sleep(PACE).await;
    let from = clock::now();
    sleep(STEADY).await;
    let before = rate.between(from, clock::now()).context("the store was read while all was well")?;
    ensure!(before > 0.0, "nothing was settled while all was well");
    all_slots_began(&book).await?;
    suspects.take();

    let interrupted = book.slow_running();
    let returned = way.away(2 * lease).await?;
    // They run again after what was waiting, and trouble with them may come as late.
    while !book.have_ended(&interrupted) && clock::since(returned) < RETURN_MAX {
        sleep(LOOK).await;
    }
    let over = clock::now();
    let full = loop {
        sleep(LOOK).await;
        if clock::since(over) > STEADY + LOOK * 2 {
            let full = rate.reached(before * FULL, returned, STEADY);
            if full.is_some() || clock::since(returned) > RETURN_MAX {
                break full.map(|at| at.saturating_sub(returned));
            }
        }
    };
    supply.end().await?;
    let Fate { lost, twice } = worked_off(&book, lease).await;
    drop(rate);
    worker.stop().await;
    aside.stop().await;

    let mut problems = Vec::new();
    if lost > 0 {
        problems.push(format!("{lost} deliveries were lost"));
    }
    if full.is_none_or(|full| full > lease + GRACE) {
        problems.push(format!("the full rate was not there within a lease and {GRACE:?}"));
    }
    let line = Line::new("outage", ground.engine().name()).with("by", way.outage()).figure("rate_before", before);
    let line = match full {
        Some(full) => line.figure("seconds_to_full_rate", full.as_secs_f64()),
        None => line.with("seconds_to_full_rate", serde_json::Value::Null),
    };
    let line = line.with("suspects", suspects.take()).with("lost", lost).with("twice", twice);
    Ok(Outage { line, problems })
}

/// Waits until all slots run slow handlers that began a moment ago.
async fn all_slots_began(book: &Book) -> anyhow::Result<()> {
    let waiting = async {
        while book.slow_younger(YOUNG) < SLOTS {
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, waiting).await.context("the slow handlers do not begin together")
}

/// Waits until all that was acknowledged has ended, or nothing ends any more.
async fn worked_off(book: &Book, lease: Duration) -> Fate {
    let patience = 10 * lease + SLOW;
    let (mut ended, mut at) = (book.ended(), clock::now());
    loop {
        let fate = book.fate();
        if book.ended() > ended {
            (ended, at) = (book.ended(), clock::now());
        }
        if fate.lost == 0 || clock::since(at) > patience {
            return fate;
        }
        sleep(LOOK).await;
    }
}
