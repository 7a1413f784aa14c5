//! Each store beside the model: what one is asked, the other is asked, and every answer is compared.
//!
//! The calls are drawn from a seed. The first seeds are tried, the same each time; with `EVENTED_SEED=17` that one, with
//! `EVENTED_SEEDS=1000` so many. A failure prints its seed and the shortest sequence that was found to fail.
//!
//! Real stores have real clocks, and the model goes by the same. No answer depends on how fast the test runs: a delay is zero or a day,
//! a lease is an hour or a millisecond, and between two calls is more than that. So each call has its own time in both
//! stores, and what ends between two calls has ended for both.

mod side;
mod step;

use std::{env, fmt::Write as _, panic, time::Duration};

use evented::testing::{Clock, Model, Site};
use tokio::task::{JoinSet, LocalSet};

use self::{
    side::Side,
    step::{Step, steps},
};
use crate::contract::{postgres, redis, sqlite};

/// So many seeds at once: most of the time is spent waiting.
const AT_ONCE: u64 = 6;
/// So many calls of each.
const STEPS: usize = 60;
/// What is between two calls: longer than the short lease, in milliseconds that are counted whole.
const BETWEEN: Duration = Duration::from_millis(3);

#[tokio::test]
async fn sqlite_answers_as_the_model_does() {
    agree::<sqlite::Queue>(60).await;
}

#[tokio::test]
async fn sqlite_beside_an_outbox_answers_as_the_model_does() {
    agree::<sqlite::Outbox>(60).await;
}

#[tokio::test]
async fn postgres_answers_as_the_model_does() {
    agree::<postgres::Queue>(20).await;
}

#[tokio::test]
async fn redis_answers_as_the_model_does() {
    agree::<redis::Queue>(60).await;
}

/// Where two answers differ.
struct Difference {
    step: usize,
    model: String,
    store: String,
}

/// Tries so many seeds: as many as take a few seconds, and less than twenty where each store is a schema of its own.
async fn agree<S: Site + 'static>(count: u64) {
    let given = |name: &str| env::var(name).ok().map(|given| given.parse().expect("a seed is a number"));
    let seeds: Vec<u64> = match given("EVENTED_SEED") {
        Some(seed) => vec![seed],
        None => (0..given("EVENTED_SEEDS").unwrap_or(count)).collect(),
    };
    let all = async {
        let mut trying = JoinSet::new();
        for first in 0..AT_ONCE {
            let seeds: Vec<_> = seeds.iter().copied().filter(|seed| seed % AT_ONCE == first).collect();
            trying.spawn_local(async move {
                for seed in seeds {
                    try_one::<S>(seed).await;
                }
            });
        }
        while let Some(tried) = trying.join_next().await {
            if let Err(failed) = tried {
                panic::resume_unwind(failed.into_panic());
            }
        }
    };
    LocalSet::new().run_until(all).await;
}

async fn try_one<S: Site>(seed: u64) {
    let mut steps = steps(seed, STEPS);
    let Some(difference) = first_difference::<S>(&steps).await else { return };
    steps.truncate(difference.step + 1);
    let whole = told(&steps, &difference);
    let (fewest, last) = without_what_does_not_matter::<S>(steps, difference).await;
    panic!(
        "{} answers otherwise than the model; to see it again: EVENTED_SEED={seed}\n\nthe shortest beginning that fails:\n{whole}\n\
         without what does not matter:\n{}",
        S::NAME,
        told(&fewest, &last)
    );
}

/// Leaves out one call after the other, the last first, as long as what is left fails.
async fn without_what_does_not_matter<S: Site>(mut steps: Vec<Step>, mut last: Difference) -> (Vec<Step>, Difference) {
    for at in (0..steps.len()).rev() {
        if at >= steps.len() {
            continue;
        }
        let mut fewer = steps.clone();
        fewer.remove(at);
        if let Some(difference) = first_difference::<S>(&fewer).await {
            fewer.truncate(difference.step + 1);
            (steps, last) = (fewer, difference);
        }
    }
    (steps, last)
}

fn told(steps: &[Step], Difference { model, store, .. }: &Difference) -> String {
    let mut text = String::new();
    for (number, step) in steps.iter().enumerate() {
        writeln!(text, "  {number}: {step:?}").expect("a string takes what is written to it");
    }
    text + &format!("the model: {model}\nthe store: {store}\n")
}

/// Asks both at new sites; `None` where all answers are the same, or there can be no such store here.
async fn first_difference<S: Site>(steps: &[Step]) -> Option<Difference> {
    let Some(site) = S::new().await else {
        assert!(env::var_os("EVENTED_REQUIRE_SERVERS").is_none_or(|value| value.is_empty()), "no {}", S::NAME);
        return None;
    };
    let same_time = Model::new(Clock::real());
    // The calls go to two processes in turn.
    let mut model = Side::new([same_time.store(), same_time.store()]).await;
    let mut store = Side::new([site.open().await, site.open().await]).await;
    let mut difference = None;
    for (number, step) in steps.iter().enumerate() {
        let answers = (model.ask(step).await, store.ask(step).await);
        tokio::time::sleep(BETWEEN).await;
        let (model_after, store_after) = (model.look().await, store.look().await);
        let told = |answer, side: &Side, after| {
            format!("{answer}, to look again in {:?}, more suspects: {}\n{after}", side.next, side.more)
        };
        let is_same = answers.0 == answers.1 && model_after == store_after && store.looks_again_in_time(&model);
        if !is_same {
            let expected = told(answers.0, &model, model_after);
            let found = told(answers.1, &store, store_after);
            difference = Some(Difference { step: number, model: expected, store: found });
            break;
        }
    }
    store.close();
    difference
}
