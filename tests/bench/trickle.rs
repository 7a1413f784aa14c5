//! One emit each 5 ms: how long from the call of `emit` to the first line of its handler, in one process, beside what the
//! engine takes to commit one small insert of the same kind.
//!
//! Short stretches of both alternate, so that what slows the machine slows both.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use evented::{App, prelude::*};
use evented_tests::{
    clock,
    figures::{Line, median, millis, percentile},
    ground::Ground,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::{Size, load, raw};

/// The time from one emit to the next.
pub const PERIOD: Duration = Duration::from_millis(5);
/// How many emits, and how many commits, are a stretch.
const STRETCH: u32 = 50;

/// It says itself when it was emitted.
#[event]
#[derive(Serialize, Deserialize)]
struct Ticked {
    sent_nanos: u64,
}

/// Where the handler says how long an event took to it.
#[derive(Clone)]
struct Arrivals(mpsc::UnboundedSender<Duration>);

#[handler(Ticked, background)]
async fn arrive(event: Ticked, arrivals: State<Arrivals>) {
    let took = clock::since_nanos(event.sent_nanos);
    // Nobody listens once all have come.
    let _gone = arrivals.0.send(took);
}

pub async fn measure(ground: &Ground, size: Size) -> anyhow::Result<Line> {
    let (mut p50, mut p99, mut commit) = (Vec::new(), Vec::new(), Vec::new());
    // A stretch of emits and one of commits.
    let stretches = (size.seconds.as_millis() / (2 * STRETCH * PERIOD).as_millis()).max(1);
    for _ in 0..size.rounds {
        let (arrivals, mut arrived) = mpsc::unbounded_channel();
        let run = evented::run().install(false).module(module_path!()).state(Arrivals(arrivals));
        let app = run.queue(ground.store()).await?;
        // A store of its own, so that the worker has nothing to do with it.
        let url = ground.store();
        load::fill(&url, 0).await?;
        let mut commits = raw::Commits::open(ground.engine(), &url).await?;
        let (mut latencies, mut commit_latencies) = (Vec::new(), Vec::new());
        for _ in 0..stretches {
            emit(&app).await?;
            for _ in 0..STRETCH {
                latencies.extend(arrived.recv().await.map(millis));
            }
            commit_latencies.extend(commits.measure(STRETCH, PERIOD).await?.into_iter().map(millis));
        }
        app.stop().await;
        ensure!(latencies.len() == commit_latencies.len(), "some events have not arrived");
        p50.push(median(&latencies));
        p99.push(percentile(&latencies, 99));
        commit.push(median(&commit_latencies));
    }
    Ok(Line::new("latency", ground.engine().name())
        .figure("p50_ms", median(&p50))
        .figure("p99_ms", median(&p99))
        .figure("commit_ms", median(&commit))
        .with("unit", "ms"))
}

/// A stretch of emits, each at its time, whether or not the one before has returned.
async fn emit(app: &App) -> anyhow::Result<()> {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let app = Arc::new(app.clone());
    let mut emits = tokio::task::JoinSet::new();
    for _ in 0..STRETCH {
        ticks.tick().await;
        let app = Arc::clone(&app);
        let sent_nanos = clock::nanos();
        emits.spawn(async move { app.emit(Ticked { sent_nanos }).await });
    }
    for emitted in emits.join_all().await {
        emitted?;
    }
    Ok(())
}
