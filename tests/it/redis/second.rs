//! Beside a process of the second layout, whose scripts stand in `layout_2` as they were: it knows of no session.

use std::time::Duration;

use evented::store::{Blame, Outcome};
use evented_tests::{eventually, servers::Redis};

use super::{
    KEEPER, LONG, claim, completed, count, delivery, exchange,
    older::{READ_ARGUMENTS, hex},
    open, ordered, payloads, push, record, settle,
    suspects::{dies_with_all, suspects},
};

macro_rules! layout_2 {
    ($redis:expr, $script:literal, $($arg:expr),* $(,)?) => {{
        let code = concat!(include_str!("layout_2/prelude.lua"), include_str!(concat!("layout_2/", $script, ".lua")));
        let code = format!("{READ_ARGUMENTS}\n{code}");
        $redis.ask(&["EVAL", &code, "1", "{evented}:store", $($arg),*]).unwrap()
    }};
}

fn id(key: &str) -> String {
    hex(&delivery("mail", key).id.to_bytes())
}

/// The number of the one handler.
fn number(redis: &Redis) -> u32 {
    let lane = redis.ask(&["HGET", "{evented}:lanes", "mail"]).unwrap();
    lane.split_once(':').unwrap().0.parse().unwrap()
}

fn lease(redis: &Redis, token: &str) -> String {
    hex(&[token.as_bytes(), &number(redis).to_be_bytes(), &1_u32.to_be_bytes()].concat())
}

const MINUTE: &str = "60000000";

/// What that process claims: the answer of its script, in which are the payloads.
fn claims(redis: &Redis, token: &str) -> String {
    layout_2!(redis, "exchange", "", token, MINUTE, "0", "0", "1", "default", "10", "1", "mail", "1", "1", "10")
}

/// Whether it settles what it claimed.
fn settles(redis: &Redis, token: &str, kind: &str, key: &str) -> bool {
    let lease = lease(redis, token);
    layout_2!(redis, "exchange", "", "0", "0", "0", "1", kind, &lease, &id(key), "0", "why", "0").starts_with('1')
}

fn sweeps(redis: &Redis) {
    layout_2!(redis, "sweep", "", "604800000000", "1000000", "1000", "500");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_the_second_layout_is_gone_on_with() {
    let Some(redis) = Redis::start(&[]) else { return };
    let first = open(&redis.url()).await;
    record(&first, &["mail"]).await;
    push(&first, ["runs", "fails", "ends"].map(|key| delivery("mail", key)).to_vec()).await;
    redis.ask(&["HSET", "{evented}:store", "version", "2"]).unwrap();
    let claimed = claims(&redis, "the runs");
    assert!(["runs", "fails", "ends"].iter().all(|key| claimed.contains(key)), "{claimed}");
    assert!(settles(&redis, "the runs", "retry", "fails"));
    let held = lease(&redis, "the runs");
    assert_eq!(layout_2!(redis, "alone", &held, &id("ends"), "2"), "1");

    let store = open(&redis.url()).await;
    assert_eq!(redis.ask(&["HMGET", "{evented}:store", "version", "min_compatible"]).unwrap(), "3\n2");
    assert_eq!(layout_2!(redis, "extend", "1000", "1", &held, "1", &id("ends")), "1");
    let mut again = Vec::new();
    eventually("both are due", async || {
        again.extend(claim(&store, 10, "mail").await);
        again.len() == 2
    })
    .await;
    again.sort_by_key(|claimed| claimed.failed);
    assert_eq!(payloads(&again), ["ends", "fails"]);
    let told: Vec<_> = again.iter().map(|claimed| (claimed.failed, claimed.blame)).collect();
    assert_eq!(told, [(0, Blame::default()), (1, Blame::default())], "nobody knows who died");
    assert!(!settles(&redis, "the runs", "completed", "ends"));
    assert!(settles(&redis, "the runs", "completed", "runs"));
    assert!(settle(&store, again[0].lease, Outcome::Completed).await);
    assert_eq!((count(&store, "mail").await.done, count(&store, "mail").await.running), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_of_the_second_layout_goes_on_beside_this_one() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    push(&store, vec![delivery("mail", "suspect")]).await;
    dies_with_all(&store).await;
    push(&store, vec![delivery("mail", "due")]).await;
    let claimed = claims(&redis, "the olds");
    assert!(claimed.contains("due") && !claimed.contains("suspect"), "{claimed}");
    let held = lease(&redis, "the olds");
    assert_eq!(layout_2!(redis, "extend", MINUTE, "1", &held, "1", &id("due")), "1");
    assert!(settles(&redis, "the olds", "completed", "due"));
    // It takes what this one holds no longer.
    push(&store, vec![delivery("mail", "taken")]).await;
    let lost = claim(&store, 10, "mail").await;
    assert_eq!(store.queue.extend(KEEPER, &[lost[0].lease], Duration::from_millis(50)).await.unwrap(), [true]);
    eventually("it is taken", async || claims(&redis, "the olds").contains("taken")).await;
    assert!(!settle(&store, lost[0].lease, Outcome::Completed).await);
    assert!(settles(&redis, "the olds", "released", "taken"));
    assert_eq!(payloads(&claim(&store, 10, "mail").await), ["taken"]);
    let exposed = suspects(&store).await.exposed;
    assert_eq!(payloads(&exposed), ["suspect"]);
    assert!(!settles(&redis, "the olds", "completed", "suspect"));
    assert_eq!(exchange(&store, completed(&exposed), 10, "mail").await.0, [true]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspect_that_a_sweep_of_the_second_layout_puts_back_runs_once_at_a_time() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    push(&store, (1..=3).map(|number| ordered("mail", &format!("number {number}"), "a")).collect()).await;
    // This one is first.
    dies_with_all(&store).await;
    sweeps(&redis);
    let lane = format!("{{evented}}:due:{}:1", number(&redis));
    assert_eq!(redis.ask(&["ZCOUNT", &lane, "0", "(inf"]).unwrap(), "1", "it is back in its lane");
    let exposed = suspects(&store).await.exposed;
    assert_eq!(payloads(&exposed), ["number 1"]);
    assert!(!claims(&redis, "the olds").contains("number"));
    assert!(claim(&store, 10, "mail").await.is_empty());
    assert!(settle(&store, exposed[0].lease, Outcome::Completed).await);
    // That one is.
    assert_eq!(payloads(&dies_with_all(&store).await), ["number 2"]);
    sweeps(&redis);
    assert!(claims(&redis, "the olds").contains("number 2"));
    let suspected = suspects(&store).await;
    assert!(suspected.exposed.is_empty() && !suspected.more, "{suspected:?}");
    assert!(claim(&store, 10, "mail").await.is_empty());
    assert!(settles(&redis, "the olds", "completed", "number 2"));
    assert_eq!(payloads(&claim(&store, 10, "mail").await), ["number 3"]);
    crate::store::admin(&store).sweep(evented::store::Retention { age: LONG, count: 10 }).await.unwrap();
    assert_eq!(redis.ask(&["EXISTS", "{evented}:suspects"]).unwrap(), "0");
}
