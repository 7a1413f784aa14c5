//! A backlog of deliveries whose handler does nothing: how many a second are claimed, run and settled.
//!
//! `limit` is what a raw loop does that claims 500, then settles them, a commit for each. In `limit_merged` each commit
//! settles one batch and claims the next, as evented does it itself.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use evented_tests::{
    clock,
    figures::{Line, median, per_second},
    ground::Ground,
};

use crate::{Size, load, raw};

/// On how many connections the raw loop runs; its best counts.
const CONNECTIONS: [usize; 3] = [1, 2, 4];
/// How long a drain may take.
const DEADLINE: Duration = Duration::from_mins(5);

pub async fn measure(ground: &Ground, size: Size) -> anyhow::Result<Line> {
    let mut evented = Vec::new();
    let mut plain = CONNECTIONS.map(|_| Vec::new());
    let mut merged = CONNECTIONS.map(|_| Vec::new());
    for _ in 0..size.rounds {
        let url = ground.store();
        load::fill(&url, size.deliveries).await?;
        evented.push(per_second(size.deliveries, drain(&url, size.deliveries).await?));
        for (at, connections) in CONNECTIONS.into_iter().enumerate() {
            plain[at].push(raw_loop(ground, size, connections, false).await?);
            merged[at].push(raw_loop(ground, size, connections, true).await?);
        }
    }
    let evented = median(&evented);
    let limit = best(&plain);
    Ok(Line::new("drain", ground.engine().name())
        .figure("evented", evented)
        .figure("limit", limit)
        .figure("ratio", evented / limit)
        .with("unit", "deliveries/s")
        .figure("limit_merged", best(&merged)))
}

/// The median of the number of connections with which it is highest.
fn best(rounds: &[Vec<f64>]) -> f64 {
    rounds.iter().map(|rounds| median(rounds)).fold(0.0, f64::max)
}

/// What a raw loop does on a store of its own.
async fn raw_loop(ground: &Ground, size: Size, connections: usize, merged: bool) -> anyhow::Result<f64> {
    let url = ground.store();
    load::fill(&url, size.deliveries).await?;
    let drained = raw::drain(ground.engine(), &url, connections, merged).await?;
    // A loop that loses something is no measure.
    ensure!(drained.deliveries == size.deliveries, "the raw loop settled {} deliveries", drained.deliveries);
    let bytes = size.deliveries * load::PAYLOAD_BYTES;
    ensure!(drained.payload_bytes == bytes, "the raw loop read {} bytes", drained.payload_bytes);
    Ok(per_second(size.deliveries, drained.took))
}

/// How long evented takes from its start to the last settlement. Connections are opened within, as in the raw loop.
async fn drain(url: &str, deliveries: u64) -> anyhow::Result<Duration> {
    let all = load::taken() + deliveries;
    let began = clock::now();
    let app = load::worker(url).await?;
    let draining = async {
        // Counting the store's rows would be work beside the drain: it is asked only once all have run.
        while load::taken() < all {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while app.counts().await?.iter().any(|count| count.waiting + count.running > 0) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        anyhow::Ok(clock::since(began))
    };
    let took = tokio::time::timeout(DEADLINE, draining).await.context("evented does not drain its backlog")??;
    app.stop().await;
    ensure!(load::taken() == all, "some deliveries ran twice");
    Ok(took)
}
