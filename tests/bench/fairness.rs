//! A neighbour's backlog: how long the first delivery of a handler takes while a hundred thousand of another one, in the
//! same queue, are drained.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use evented::prelude::*;
use evented_tests::{
    clock,
    figures::{Line, median, millis},
    ground::Ground,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::Size;

/// How much of the backlog is drained before the other event is emitted: the worker is at its pace.
const PACE: u64 = 20;
/// The most that one `emit_all` takes.
const EVENTS_MAX: u64 = 10_000;

#[event]
#[derive(Serialize, Deserialize)]
struct Crowded {
    number: u64,
}

#[event]
#[derive(Serialize, Deserialize)]
struct Lone {
    sent_nanos: u64,
}

#[derive(Clone)]
struct Arrival(mpsc::UnboundedSender<(Duration, u64)>);

static CROWD: AtomicU64 = AtomicU64::new(0);

#[handler(Crowded, background)]
async fn crowd(_event: Crowded) {
    CROWD.fetch_add(1, Ordering::Relaxed);
}

#[handler(Lone, background)]
async fn pass(event: Lone, arrival: State<Arrival>) {
    let took = clock::since_nanos(event.sent_nanos);
    let _gone = arrival.0.send((took, CROWD.load(Ordering::Relaxed)));
}

pub async fn measure(ground: &Ground, size: Size) -> anyhow::Result<Line> {
    let backlog = 2 * size.deliveries;
    let mut first = Vec::new();
    for _ in 0..size.rounds {
        let url = ground.store();
        let (arrival, mut arrived) = mpsc::unbounded_channel();
        let run = || evented::run().install(false).module(module_path!()).state(Arrival(arrival.clone())).queue(&url);
        let filling = run().role(Role::Emit).await?;
        for from in (0..backlog).step_by(usize::try_from(EVENTS_MAX)?) {
            let some = (backlog - from).min(EVENTS_MAX);
            filling.emit_all((0..some).map(|number| Crowded { number })).await?;
        }
        filling.stop().await;

        let before = CROWD.load(Ordering::Relaxed);
        let app = run().await?;
        while CROWD.load(Ordering::Relaxed) < before + backlog / PACE {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        app.emit(Lone { sent_nanos: clock::nanos() }).await?;
        let (took, handled) = arrived.recv().await.context("the other handler runs")?;
        ensure!(handled < before + backlog, "the backlog was drained before the other handler's delivery ran");
        first.push(millis(took));
        app.stop().await;
    }
    Ok(Line::new("fairness", ground.engine().name())
        .figure("first_ms", median(&first))
        .with("backlog", backlog)
        .with("unit", "ms"))
}
