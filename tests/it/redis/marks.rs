//! What is remembered of a push that may be repeated: for how long, and how many.

use std::time::Duration;

use evented::{
    DeliveryId,
    store::{ONCE_COUNT, ONCE_FINISHED, ONCE_RETENTION, Push, Pushed, Retention, Store, StoreTime},
};
use evented_tests::servers::Redis;

use super::{LONG, claim, completed, count, delivery, open, ordered, push, record};

const MARKS: &str = "{evented}:once";

async fn push_once(store: &Store, keys: &[&str]) {
    let generation = store.catalogue.read().await.unwrap().generation;
    let deliveries: Vec<_> = keys.iter().map(|key| delivery("mail", key)).collect();
    assert!(store.queue.push(Push::of(generation, deliveries).once()).await.unwrap().is_stored());
}

async fn finish(store: &Store, keys: &[&str]) {
    let generation = store.catalogue.read().await.unwrap().generation;
    let finished: Vec<DeliveryId> = keys.iter().map(|key| delivery("mail", key).id).collect();
    let push = Push { finished: finished.into(), ..Push::of(generation, []) };
    assert_eq!(store.queue.push(push).await.unwrap(), Pushed::Stored(Vec::new()));
}

/// When the marks began, as the server has it, in microseconds; the oldest first.
fn ages(redis: &Redis) -> Vec<i64> {
    let marks = redis.ask(&[
        "EVAL",
        "local all = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES') local scores = {} \
                             for i = 2, #all, 2 do scores[#scores + 1] = all[i] end return scores",
        "1",
        MARKS,
    ]);
    marks.unwrap().lines().map(|age| age.parse().unwrap()).collect()
}

/// As if so much time had passed for all marks.
fn pass(redis: &Redis, time: Duration) {
    let script = "local all = redis.call('ZRANGE', KEYS[1], 0, -1) \
                  for _, id in ipairs(all) do redis.call('ZINCRBY', KEYS[1], ARGV[1], id) end";
    redis.ask(&["EVAL", script, "1", MARKS, &format!("-{}", time.as_micros())]).unwrap();
}

fn marks(redis: &Redis) -> u64 {
    redis.ask(&["ZCARD", MARKS]).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_mark_is_forgotten_a_while_after_it_is_finished_and_no_later_where_it_is_finished_again() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    push_once(&store, &["finished", "not yet"]).await;
    let claimed = claim(&store, 10, "mail").await;
    store.queue.exchange(completed(&claimed).into(), None).await.unwrap();
    finish(&store, &["finished"]).await;
    let aged = ages(&redis);
    let left = ONCE_RETENTION.checked_sub(Duration::from_micros(u64::try_from(aged[1] - aged[0]).unwrap())).unwrap();
    assert!(left >= ONCE_FINISHED && left < ONCE_FINISHED + LONG, "{left:?}");
    finish(&store, &["finished"]).await;
    assert_eq!(ages(&redis), aged);
    // Its time is over; the other one has all of it but that.
    pass(&redis, ONCE_FINISHED);
    push_once(&store, &["another"]).await;
    assert_eq!(marks(&redis), 2);
    push_once(&store, &["finished", "not yet"]).await;
    assert_eq!(count(&store, "mail").await.waiting, 2, "the other one, and the one that was forgotten");
}

#[tokio::test]
async fn marks_whose_time_is_over_go_as_fast_as_others_come() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    let keys: Vec<_> = (0..100).map(|number| format!("old {number}")).collect();
    push_once(&store, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    pass(&redis, ONCE_RETENTION);
    // Two for each that is new, so that no push is long.
    push_once(&store, &["new 1", "new 2", "new 3"]).await;
    assert_eq!(marks(&redis), 100 - 6 + 3);
    finish(&store, &["new 1"]).await;
    assert_eq!(marks(&redis), 100 - 8 + 3);
    // Others leave them alone: they are no work of theirs.
    push(&store, vec![delivery("mail", "plain"), ordered("mail", "in order", "a")]).await;
    assert_eq!(marks(&redis), 95);
    crate::store::admin(&store).sweep(Retention { age: LONG, count: 10 }).await.unwrap();
    assert_eq!(marks(&redis), 3);
}

/// Marks that began so long ago, as others have left them.
fn fill(redis: &Redis, marks: u64, age: Duration) {
    const STEP: u64 = 2_000;
    let script = "local time = redis.call('TIME') local at = time[1] * 1000000 + time[2] - ARGV[2] \
                  for i = 1, ARGV[1] do redis.call('ZADD', KEYS[1], at + i, ARGV[3] .. i) end";
    for step in 0..marks.div_ceil(STEP) {
        let count = STEP.min(marks - step * STEP).to_string();
        let age = age.as_micros().to_string();
        redis.ask(&["EVAL", script, "1", MARKS, &count, &age, &format!("{age} {step} ")]).unwrap();
    }
}

#[tokio::test]
async fn beyond_their_number_the_oldest_marks_are_forgotten_and_that_is_told_once() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    let sweep = async || crate::store::admin(&store).sweep(Retention { age: LONG, count: 10 }).await.unwrap();
    // One that is finished is the oldest, and what a late push meets.
    push_once(&store, &["finished"]).await;
    finish(&store, &["finished"]).await;
    fill(&redis, ONCE_COUNT, Duration::from_hours(1));
    assert_eq!(sweep().await.forgotten_early, 0);
    assert_eq!(marks(&redis), ONCE_COUNT + 1);
    push_once(&store, &["1", "2", "3"]).await;
    assert_eq!(marks(&redis), ONCE_COUNT + 1, "bounded by the push itself");
    let swept = sweep().await;
    assert_eq!((swept.forgotten_early, swept.more), (3, false));
    assert_eq!(sweep().await.forgotten_early, 0, "it is told once");
    push_once(&store, &["1", "2", "3"]).await;
    assert_eq!(count(&store, "mail").await.waiting, 1 + 3, "the newest are kept");

    // As an older release has left it: in steps.
    fill(&redis, 5_000, Duration::from_hours(2));
    let (mut steps, mut forgotten) = (0, 0);
    loop {
        let swept = sweep().await;
        steps += 1;
        forgotten += swept.forgotten_early;
        if !swept.more {
            break;
        }
    }
    assert_eq!((forgotten, marks(&redis)), (5_000, ONCE_COUNT + 1));
    assert!(steps >= 3, "{steps} steps");
}

#[tokio::test]
async fn a_full_server_takes_what_is_finished() {
    let Some(redis) = Redis::start(&[("maxmemory-policy", "noeviction")]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    push_once(&store, &["order 17"]).await;
    let before = ages(&redis);
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    finish(&store, &["order 17"]).await;
    assert!(ages(&redis)[0] < before[0]);
    let generation = store.catalogue.read().await.unwrap().generation;
    let finished = [delivery("mail", "order 17").id].into();
    let both = Push { finished, ..Push::of(generation, [delivery("mail", "order 18")]) };
    assert!(store.queue.push(both).await.unwrap_err().to_string().contains("maxmemory"));
    assert_eq!(count(&store, "mail").await.waiting, 1, "what is finished lets nothing else in");
}

#[tokio::test]
async fn a_push_that_stores_nothing_finishes_nothing() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    push_once(&store, &["order 17"]).await;
    let before = ages(&redis);
    let generation = store.catalogue.read().await.unwrap().generation;
    let finished = || [delivery("mail", "order 17").id].into();
    let past = StoreTime(store.queue.clock().await.unwrap().0 - 1);
    let late = Push { until: Some(past), finished: finished(), ..Push::of(generation, []) };
    assert_eq!(store.queue.push(late).await.unwrap(), Pushed::TooLate);
    let moved = Push { finished: finished(), ..Push::of(generation ^ 1, []) };
    assert_eq!(store.queue.push(moved).await.unwrap(), Pushed::CatalogueMoved);
    assert_eq!(ages(&redis), before);
}
