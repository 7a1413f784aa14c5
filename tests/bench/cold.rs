//! A lone emit after a long idleness, with the worker in another process: how long from the call of `emit` to the first
//! line of the handler.

use std::time::Duration;

use anyhow::Context as _;
use evented::prelude::*;
use evented_tests::{
    children::{Child, until_dismissed},
    clock,
    figures::{Line, median, millis},
    ground::Ground,
};
use serde::{Deserialize, Serialize};

use crate::Size;

#[event]
#[derive(Serialize, Deserialize)]
struct Woken {
    sent_nanos: u64,
}

/// Prints how long the event took: the parent reads it.
#[handler(Woken, background)]
async fn wake(event: Woken) {
    let took = clock::since_nanos(event.sent_nanos);
    println!("{}", took.as_nanos());
}

/// The child: a worker at its defaults.
pub async fn work(args: &[String]) -> anyhow::Result<()> {
    let url = args.first().context("a worker is given the URL of its store")?;
    let app = evented::run().module(module_path!()).role(Role::Work).queue(url).await?;
    println!("ready");
    until_dismissed().await;
    app.stop().await;
    Ok(())
}

pub async fn measure(ground: &Ground, size: Size) -> anyhow::Result<Line> {
    let url = ground.store();
    let app = evented::run().install(false).module(module_path!()).role(Role::Emit).queue(&url).await?;
    let mut worker = Child::start(&[&url])?;
    worker.line().await?;
    let mut latencies = Vec::new();
    // The first comes at once and does not count: it opens what is opened once.
    for idle in std::iter::once(Duration::ZERO).chain(std::iter::repeat_n(size.idle, size.rounds)) {
        tokio::time::sleep(idle).await;
        app.emit(Woken { sent_nanos: clock::nanos() }).await?;
        let nanos = worker.line().await?.parse().context("a worker says how long an event took")?;
        latencies.push(millis(Duration::from_nanos(nanos)));
    }
    worker.end().await?;
    app.stop().await;
    let cold = &latencies[1..];
    Ok(Line::new("cold", ground.engine().name())
        .figure("ms", median(cold))
        .figure("worst_ms", cold.iter().copied().fold(0.0, f64::max))
        .figure("idle_seconds", size.idle.as_secs_f64())
        .with("unit", "ms"))
}
