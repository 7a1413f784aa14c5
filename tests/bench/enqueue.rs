//! Many emitters at once, each of which waits until its event is stored: how many emits a second.
//!
//! The limit is what one connection inserts when nobody waits for a single row: batches of 500, one commit for each.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use evented_tests::{
    clock,
    figures::{Line, median, per_second},
    ground::Ground,
};
use tokio::task::JoinSet;

use crate::{
    Size,
    load::{self, Placed},
    raw,
};

const EMITTERS: usize = 64;

pub async fn measure(ground: &Ground, size: Size) -> anyhow::Result<Line> {
    let mut evented = Vec::new();
    let mut limit = Vec::new();
    for _ in 0..size.rounds {
        evented.push(emit(&ground.store(), size.seconds).await?);
        let url = ground.store();
        load::fill(&url, 0).await?;
        let inserted = raw::enqueue(ground.engine(), &url, size.seconds).await?;
        limit.push(per_second(inserted.deliveries, inserted.took));
    }
    let (evented, limit) = (median(&evented), median(&limit));
    Ok(Line::new("enqueue", ground.engine().name())
        .figure("evented", evented)
        .figure("limit", limit)
        .figure("ratio", evented / limit)
        .with("unit", "emits/s")
        .with("emitters", EMITTERS))
}

async fn emit(url: &str, seconds: Duration) -> anyhow::Result<f64> {
    let app = load::emitter(url).await?;
    let next = Arc::new(AtomicU64::new(0));
    let began = clock::now();
    let mut emitters = JoinSet::new();
    for _ in 0..EMITTERS {
        let (app, next) = (app.clone(), Arc::clone(&next));
        emitters.spawn(async move {
            let mut emitted = 0;
            while clock::since(began) < seconds {
                app.emit(Placed::new(next.fetch_add(1, Ordering::Relaxed))).await?;
                emitted += 1;
            }
            anyhow::Ok(emitted)
        });
    }
    let emitted: Vec<u64> = emitters.join_all().await.into_iter().collect::<Result<_, _>>()?;
    let took = clock::since(began);
    let emitted = emitted.into_iter().sum();
    let stored: u64 = app.counts().await?.iter().map(|count| count.waiting).sum();
    ensure!(stored == emitted, "{emitted} emits returned, {stored} deliveries are stored");
    app.stop().await;
    Ok(per_second(emitted, took))
}
