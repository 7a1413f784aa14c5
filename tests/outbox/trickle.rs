//! One transaction each 10 ms: how long from the call of its commit to the first line of the handler, in one process, beside
//! what the commit of such a row takes alone.
//!
//! Short stretches of both alternate, so that what slows the machine slows both.

use std::time::Duration;

use anyhow::Context as _;
use evented::{Role, sqlx::Pool};
use evented_tests::{
    clock,
    figures::{median, millis, percentile},
};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

use crate::{
    load::{Arrivals, Load},
    speed::{insert, start},
};

/// The time from one transaction to the next.
const PERIOD: Duration = Duration::from_millis(10);
/// How many are a stretch.
const STRETCH: u64 = 50;
/// How long the events of a stretch may take to arrive.
const DEADLINE: Duration = Duration::from_mins(1);

/// What each round came to.
#[derive(Default)]
pub struct Figures {
    pub p50: Vec<f64>,
    pub p99: Vec<f64>,
    pub commit: Vec<f64>,
}

/// What one round came to: from commits to handlers, and commits alone.
pub struct Round {
    arrived: Vec<f64>,
    committed: Vec<f64>,
}

impl Figures {
    pub fn add(&mut self, round: Round) {
        self.p50.push(median(&round.arrived));
        self.p99.push(percentile(&round.arrived, 99));
        self.commit.push(median(&round.committed));
    }
}

/// Measures both for so long, each in a database of its own.
pub async fn measure<Db: Load>(urls: &[String; 2], in_tx: bool, seconds: Duration) -> anyhow::Result<Round> {
    // A stretch of events and one of commits.
    let stretches = u64::try_from(seconds.as_millis() / (u128::from(2 * STRETCH) * PERIOD.as_millis()))?.max(1);
    let arrivals = Arrivals::timed(stretches * STRETCH);
    // The tables without a relay, so that nobody has to do with the rows.
    let (maker, alone) = start::<Db>(&urls[1], in_tx, Role::Emit, &arrivals).await?;
    maker.stop().await;
    let (app, pool) = start::<Db>(&urls[0], in_tx, Role::All, &arrivals).await?;

    let (mut called, mut committed) = (Vec::new(), Vec::new());
    for stretch in 1..=stretches {
        let mut ticks = ticks();
        for _ in 0..STRETCH {
            ticks.tick().await;
            let mut tx = evented::begin(&pool).await?;
            Db::emit_placed(&mut tx, in_tx, called.len().try_into()?).await?;
            called.push(clock::nanos());
            tx.commit().await?;
        }
        let all = async {
            while arrivals.count() < stretch * STRETCH {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(DEADLINE, all).await.context("some events have not arrived")?;
        committed.extend(commits(&alone).await?);
    }
    app.stop().await;
    let took = arrivals.times().into_iter().zip(called);
    let arrived = took.map(|(arrived, called)| millis(Duration::from_nanos(arrived.saturating_sub(called)))).collect();
    Ok(Round { arrived, committed })
}

/// A stretch of commits: how long the call of each took, in milliseconds.
async fn commits<Db: Load>(pool: &Pool<Db>) -> anyhow::Result<Vec<f64>> {
    let (mut ticks, mut took) = (ticks(), Vec::new());
    for number in 0..STRETCH {
        ticks.tick().await;
        let mut tx = evented::begin(pool).await?;
        insert::<Db>(&mut tx, number).await?;
        let called = clock::now();
        tx.commit().await?;
        took.push(millis(clock::since(called)));
    }
    Ok(took)
}

fn ticks() -> Interval {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
