//! What is lost when things fail under load, and how soon it goes on: processes are killed, servers die and fall silent, the
//! network is cut.
//!
//! ```sh
//! cargo run --release -p evented-tests --bin survive -- --store redis
//! ```
//!
//! Emitters and workers are processes of their own, which reach their server through a proxy. An emitter notes each event in
//! a file once `emit` has returned `Ok` for it, before it emits the next; a handler notes each event that it handled. Half of
//! the events are emitted to be due later, so that a fault finds many that wait.
//!
//! Each fault has a new store and is a line of JSON: `emitted` is how many were acknowledged, `lost` how many of those were
//! not handled once nothing waits any more, `twice` how many events were handled more than once, `seconds_to_resume` the
//! time from the fault's end to the next handled delivery. Where the answer to an emit is an error, its event is not counted.
//!
//! Nothing may be lost, with one exception: a redis with `appendfsync everysec` that is killed may lose what it acknowledged in
//! the two seconds before. It runs with `always` and with `everysec`. The program fails where more was lost.
//!
//! Options: `--store sqlite,postgres,redis`, `--seconds 3` of load before each fault and after it, `--fault worker_killed,..`
//! for some faults only, `--appendfsync always` for one of the two.

mod book;
mod fault;
mod load;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, ensure};
use evented::prelude::*;
use evented_tests::{
    args::Args,
    children::{self, child_args},
    clock,
    figures::{Line, warn_of_debug},
    ground::{Aof, Engine, Ground},
    proxy::Proxy,
};
use tempfile::TempDir;

use self::{
    book::{Book, compare},
    fault::Fault,
    load::Load,
};

/// How long it may take to go on after a fault, and how long to work off what waits.
const DEADLINE: Duration = Duration::from_mins(2);
/// What a redis may lose with `appendfsync everysec`: <https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/>.
const EVERYSEC: Duration = Duration::from_secs(2);

/// Half of the events wait in the store for so much longer than the load is there before the fault.
const LATER: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    children::log_to_stderr();
    if let Some(args) = child_args() {
        load::run(&args).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let args = Args::read(&["json"], &["store", "seconds", "fault", "appendfsync"])?;
    let seconds = args.seconds("seconds", 3.0)?;
    let only = args.get("fault", String::new())?;
    let only: Vec<Fault> = only.split(',').filter(|name| !name.is_empty()).map(str::parse).collect::<Result<_, _>>()?;
    warn_of_debug();
    let mut well = true;
    for engine in args.engines()? {
        let aofs = match (engine, args.has("appendfsync")) {
            (Engine::Redis, false) => vec![Aof::Always, Aof::Everysec],
            _ => vec![args.get("appendfsync", Aof::Always)?],
        };
        for aof in aofs {
            let Some(mut ground) = Ground::start(engine, aof, &[]) else { break };
            for fault in Fault::of(engine).into_iter().filter(|fault| only.is_empty() || only.contains(fault)) {
                let survived = survive(&mut ground, fault, seconds).await;
                let survived = survived.with_context(|| format!("{engine}, {}", fault.name()))?;
                let may_lose = engine == Engine::Redis && aof == Aof::Everysec && fault == Fault::ServerKilled;
                survived.line(engine, aof, fault).print(true);
                if survived.lost_early > 0 || survived.lost > 0 && !may_lose {
                    eprintln!("{engine}, {}: {} events were lost that may not be", fault.name(), survived.lost);
                    well = false;
                }
            }
        }
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What became of the events around one fault.
struct Survived {
    emitted: usize,
    lost: usize,
    /// Of those that were lost, the ones acknowledged longer before the fault than a redis may forget.
    lost_early: usize,
    twice: usize,
    resumed: Duration,
}

impl Survived {
    fn line(&self, engine: Engine, aof: Aof, fault: Fault) -> Line {
        let line = Line::new("survive", engine.name());
        let line = if engine == Engine::Redis { line.with("aof", aof.name()) } else { line };
        line.with("fault", fault.name())
            .with("emitted", self.emitted)
            .with("lost", self.lost)
            .with("twice", self.twice)
            .figure("seconds_to_resume", self.resumed.as_secs_f64())
    }
}

async fn survive(ground: &mut Ground, fault: Fault, seconds: Duration) -> anyhow::Result<Survived> {
    let folder = TempDir::new()?;
    let book = Book::of(folder.path());
    let direct = ground.store();
    // The proxy looks after nobody's connection but those of the children.
    let proxy = match ground.port() {
        Some(port) => Some((Proxy::start(format!("127.0.0.1:{port}")).await, format!("127.0.0.1:{port}"))),
        None => None,
    };
    let url = match &proxy {
        Some((proxy, address)) => direct.replace(address, &proxy.address().to_string()),
        None => direct.clone(),
    };
    let mut proxy = proxy.map(|(proxy, _)| proxy);

    let mut load = Load::start(&url, folder.path(), seconds + LATER).await?;
    tokio::time::sleep(seconds).await;
    let over = fault.strike(ground, proxy.as_mut(), &mut load).await?;
    let resumed = tokio::time::timeout(DEADLINE, async {
        loop {
            if let Some(handled) = book.handled_after(over.ended)? {
                return anyhow::Ok(handled.saturating_sub(over.ended));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let resumed = resumed.await.context("nothing is handled after the fault")??;
    tokio::time::sleep(seconds).await;
    load.end_emitters().await?;
    drain(&direct, &book).await?;
    load.end_workers().await?;

    let compared = compare(&book)?;
    ensure!(compared.emitted > 0, "nothing was emitted");
    let early = over.began.saturating_sub(EVERYSEC);
    Ok(Survived {
        emitted: compared.emitted,
        lost: compared.lost.len(),
        lost_early: compared.lost.iter().filter(|acknowledged| **acknowledged < early).count(),
        twice: compared.twice,
        resumed,
    })
}

/// Waits until the store has nothing left that waits or runs.
async fn drain(url: &str, book: &Book) -> anyhow::Result<()> {
    let app = evented::run().install(false).role(Role::Emit).state(book.notes()?).queue(url).await?;
    let began = clock::now();
    loop {
        let counts = app.counts().await?;
        let left: u64 = counts.iter().map(|count| count.waiting + count.running).sum();
        if left == 0 {
            let dead: u64 = counts.iter().map(|count| count.dead).sum();
            ensure!(dead == 0, "{dead} deliveries are dead letters, though no handler fails");
            break;
        }
        ensure!(clock::since(began) < DEADLINE, "{left} deliveries are left and not worked off");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    app.stop().await;
    Ok(())
}
