//! A server that dies, hangs, forgets, is full, or is a replica.

use std::{sync::Arc, time::Duration};

use evented::{
    Written,
    store::{NewDelivery, Outcome, Push, Pushed, Retention, Settlement, Store},
};
use evented_tests::{DEADLINE, eventually, proxy::Proxy, servers::Redis};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    KEEPER, claim, completed, count, delivery, exchange, open, ordered, payloads, push, record, settle, try_push,
};

/// Longer than any operation may take: to connect and to be answered.
const LIMIT: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_killed_server_that_syncs_always() {
    let settings = [("appendonly", "yes"), ("appendfsync", "always")];
    let Some(mut redis) = Redis::start(&settings) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    let generation = store.catalogue.read().await.unwrap().generation;
    let mut pushing = JoinSet::new();
    for worker in 0..8 {
        let store = store.clone();
        pushing.spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0.. {
                let key = format!("{worker} {number}");
                let deliveries = [delivery("mail", &key)];
                match store.queue.push(Push::of(generation, deliveries)).await {
                    Ok(pushed) => {
                        assert_eq!(pushed, Pushed::Stored(Vec::new()));
                        acknowledged.push(key);
                    }
                    Err(error) => {
                        assert!(error.is_transient(), "{error:?}");
                        break;
                    }
                }
            }
            acknowledged
        });
    }
    // Some are under way when it is killed.
    let (client, began) = (redis.client(), Instant::now());
    eventually("some are stored", async || {
        let stored = client.ask(&["HLEN", "{evented}:deliveries"]).unwrap();
        stored.parse::<usize>().unwrap() > 300 || began.elapsed() > DEADLINE
    })
    .await;
    redis.kill();
    let mut acknowledged: Vec<_> = pushing.join_all().await.into_iter().flatten().collect();
    redis.restart();
    let stored = payloads(&claim(&store, 1_000_000, "mail").await);
    acknowledged.retain(|key| !stored.contains(key));
    assert_eq!(acknowledged, [""; 0], "acknowledged, and gone");
    // The store goes on by itself.
    push(&store, vec![delivery("mail", "after")]).await;
    assert_eq!(payloads(&claim(&store, 10, "mail").await), ["after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_costs_no_push_that_comes_after() {
    let Some(mut redis) = Redis::start(&[("appendonly", "yes"), ("appendfsync", "always")]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    for number in 0..3 {
        redis.restart();
        // What was never sent is no failure: the end of the connection was told.
        tokio::time::sleep(Duration::from_millis(300)).await;
        push(&store, vec![delivery("mail", &number.to_string())]).await;
    }
    redis.kill();
    let generation = store.catalogue.read().await.map_or(1, |catalogue| catalogue.generation);
    // One that is sent before the end of the connection is told may have been stored, as far as anybody knows.
    eventually("nothing is sent", async || {
        let deliveries = [delivery("mail", "down")];
        let refused = store.queue.push(Push::of(generation, deliveries)).await.unwrap_err();
        assert!(refused.is_transient(), "{refused:?}");
        refused.written() == Written::Nothing
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_hangs_holds_nothing_up_for_ever() {
    let Some(redis) = Redis::start(&[]) else { return };
    let mut proxy = Proxy::start(format!("127.0.0.1:{}", redis.port())).await;
    let store = open(&format!("redis://{}", proxy.address())).await;
    let direct = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    push(&store, vec![delivery("mail", "order 17")]).await;
    let claimed = claim(&store, 10, "mail").await;
    assert_eq!(store.queue.extend(KEEPER, &[claimed[0].lease], LIMIT * 4).await.unwrap(), [true]);
    let mut mark = 0;
    eventually("it is quiet", async || {
        let seen = mark;
        mark = store.queue.wait(seen, Duration::from_millis(300)).await;
        mark == seen
    })
    .await;

    proxy.hang().await;
    push(&direct, vec![delivery("mail", "order 18")]).await;
    let generation = direct.catalogue.read().await.unwrap().generation;
    let began = Instant::now();
    let deliveries: Arc<[NewDelivery]> = [delivery("mail", "order 19")].into();
    let leases = [claimed[0].lease];
    let (pushed, exchanged, extended, ended) = tokio::join!(
        store.queue.push(Push::of(generation, deliveries)),
        store.queue.exchange(completed(&claimed).into(), None),
        store.queue.extend(KEEPER, &leases, LIMIT),
        store.queue.wait(mark, LIMIT),
    );
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    let (pushed, exchanged, extended) = (pushed.unwrap_err(), exchanged.unwrap_err(), extended.unwrap_err());
    for error in [&pushed, &exchanged, &extended] {
        assert!(error.is_transient(), "{error:?}");
    }
    assert_eq!(pushed.written(), Written::Unknown);
    assert_ne!(ended, mark, "a subscription that may be deaf is a change");
    // And again, while it hangs: a connection is not made, so that nothing is written.
    let began = Instant::now();
    let mut asking = JoinSet::new();
    for number in 0..20 {
        let store = store.clone();
        let deliveries: Arc<[NewDelivery]> = [delivery("mail", &format!("hanging {number}"))].into();
        asking.spawn(async move {
            (
                store.queue.push(Push::of(generation, deliveries)).await.is_err(),
                crate::store::admin(&store).stats().await.is_err(),
            )
        });
    }
    assert!(asking.join_all().await.iter().all(|(push, stats)| *push && *stats));
    assert!(began.elapsed() < LIMIT * 2, "{:?}", began.elapsed());

    proxy.mend().await;
    eventually("it goes on", async || try_push(&store, vec![delivery("mail", "order 20")]).await.is_ok()).await;
    assert_eq!(store.queue.extend(KEEPER, &[claimed[0].lease], LIMIT).await.unwrap().len(), 1);
    // It hears of the others again.
    eventually("it hears the others", async || {
        let mark = store.queue.wait(0, Duration::ZERO).await;
        push(&direct, vec![delivery("mail", "order 21")]).await;
        store.queue.wait(mark, Duration::from_secs(1)).await != mark
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_is_no_answer() {
    let Some(redis) = Redis::start(&[]) else { return };
    let proxy = Proxy::start(format!("127.0.0.1:{}", redis.port())).await;
    let store = open(&format!("redis://{}", proxy.address())).await;
    record(&store, &["mail"]).await;
    push(&store, vec![delivery("mail", "order 17")]).await;
    let generation = store.catalogue.read().await.unwrap().generation;
    let deliveries: Arc<[NewDelivery]> =
        [NewDelivery { payload: vec![1; 60_000].into(), ..delivery("mail", "order 18") }].into();
    // The command is longer than this, so that it is cut in the middle; the next is whole, and its answer is cut.
    proxy.reset_after(20_000);
    let error = store.queue.push(Push::of(generation, deliveries.clone())).await.unwrap_err();
    assert!(error.is_transient() && error.written() == Written::Unknown, "{error:?}");
    eventually("it is pushed again", async || store.queue.push(Push::of(generation, deliveries.clone())).await.is_ok())
        .await;
    assert_eq!(claim(&store, 10, "mail").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgot_everything_is_gone_on_with() {
    let Some(redis) = Redis::start(&[]) else { return };
    let (store, other) = (open(&redis.url()).await, open(&redis.url()).await);
    record(&store, &["mail"]).await;
    record(&other, &["stock"]).await;
    store.catalogue.read().await.unwrap();
    let generation = other.catalogue.read().await.unwrap().generation;
    push(&store, vec![delivery("mail", "order 17"), ordered("mail", "order 18", "a")]).await;
    let claimed = claim(&store, 10, "mail").await;

    redis.ask(&["FLUSHALL"]).unwrap();
    let deliveries = || -> Arc<[NewDelivery]> { [delivery("mail", "after"), delivery("stock", "after")].into() };
    let planned = |generation| Push::of(generation, deliveries());
    assert_eq!(store.queue.push(planned(generation)).await.unwrap(), Pushed::CatalogueMoved, "nothing is stored half");
    let catalogue = store.catalogue.read().await.unwrap();
    assert_ne!(catalogue.generation, generation);
    let handlers: Vec<_> = catalogue.handlers.iter().map(|entry| &*entry.handler).collect();
    assert_eq!(handlers, ["mail", "stock"], "also what another process had recorded");
    assert_eq!(store.queue.push(planned(catalogue.generation)).await.unwrap(), Pushed::Stored(Vec::new()));

    let (held, claims) = exchange(&store, completed(&claimed), 10, "mail").await;
    assert_eq!((held, payloads(&claims.deliveries)), (vec![false; 2], vec!["after".to_owned()]));
    assert_eq!(store.queue.extend(KEEPER, &[claimed[0].lease], LIMIT).await.unwrap(), [false]);
    assert_eq!(claim(&other, 10, "stock").await.len(), 1);

    // Where nobody emits, a worker that looks is enough.
    redis.ask(&["FLUSHALL"]).unwrap();
    assert!(claim(&other, 10, "stock").await.is_empty());
    assert_eq!(open(&redis.url()).await.catalogue.read().await.unwrap().handlers.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_handler_stays_retired_on_a_server_that_forgot_it() {
    let Some(redis) = Redis::start(&[]) else { return };
    let (store, other) = (open(&redis.url()).await, open(&redis.url()).await);
    record(&store, &["mail", "stock"]).await;
    assert!(crate::store::retire(&other, "mail").await);
    store.catalogue.read().await.unwrap();
    redis.ask(&["FLUSHALL"]).unwrap();
    let catalogue = store.catalogue.read().await.unwrap();
    assert_eq!(catalogue.retired, ["mail"]);
    assert_eq!(catalogue.handlers.iter().map(|entry| &*entry.handler).collect::<Vec<_>>(), ["stock"]);
    record(&other, &["mail"]).await;
    assert_eq!(store.catalogue.read().await.unwrap().handlers.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_without_their_bodies_are_dropped() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    push(&store, (0..250).map(|number| delivery("mail", &number.to_string())).collect()).await;
    redis.ask(&["DEL", "{evented}:deliveries"]).unwrap();
    push(&store, vec![delivery("mail", "whole")]).await;
    let mut found = Vec::new();
    eventually("the whole one is found behind the others", async || {
        found = payloads(&claim(&store, 100, "mail").await);
        !found.is_empty()
    })
    .await;
    assert_eq!(found, ["whole"]);
    assert_eq!(count(&store, "mail").await.waiting, 0);
    // The same of those that somebody has, when their leases end.
    push(&store, (0..3).map(|number| delivery("mail", &format!("held {number}"))).collect()).await;
    let leases: Vec<_> = claim(&store, 3, "mail").await.iter().map(|claimed| claimed.lease).collect();
    redis.ask(&["DEL", "{evented}:deliveries"]).unwrap();
    assert_eq!(store.queue.extend(KEEPER, &leases, Duration::from_millis(50)).await.unwrap(), [true; 3]);
    eventually("only the whole one is left", async || {
        assert!(claim(&store, 100, "mail").await.is_empty());
        let count = count(&store, "mail").await;
        (count.waiting, count.running) == (0, 1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_key_goes_on_where_its_head_was_lost() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    push(&store, (0..3).map(|number| ordered("mail", &number.to_string(), "a")).collect()).await;
    redis.ask(&["DEL", "{evented}:deliveries"]).unwrap();
    push(&store, (3..6).map(|number| ordered("mail", &number.to_string(), "a")).collect()).await;
    let mut seen = Vec::new();
    let mut settlements = Vec::new();
    eventually("those that are whole are found one after the other", async || {
        let (_, claims) = exchange(&store, std::mem::take(&mut settlements), 10, "mail").await;
        assert!(claims.deliveries.len() < 2);
        seen.extend(payloads(&claims.deliveries));
        settlements = completed(&claims.deliveries);
        seen.len() == 3
    })
    .await;
    assert_eq!(seen, ["3", "4", "5"]);
    exchange(&store, settlements, 10, "mail").await;
    assert_eq!(count(&store, "mail").await.waiting, 0);
}

/// What is claimed one after the other, each settled by the next claim; the first ends what is given.
async fn one_after_the_other(store: &Store, mut settlements: Vec<Settlement>, until: usize) -> Vec<String> {
    let mut seen = Vec::new();
    eventually("all that are left are found", async || {
        let (_, claims) = exchange(store, std::mem::take(&mut settlements), 10, "mail").await;
        assert!(claims.deliveries.len() < 2, "one of a key runs at a time");
        seen.extend(payloads(&claims.deliveries));
        settlements = completed(&claims.deliveries);
        seen.len() >= until
    })
    .await;
    store.queue.exchange(settlements.into(), None).await.unwrap();
    seen
}

/// As a person deletes a delivery.
pub(super) fn delete_body(redis: &Redis, key: &str) {
    let script = "return redis.call('HDEL', KEYS[1], (string.gsub(ARGV[1], '%x%x', \
                  function(hex) return string.char(tonumber(hex, 16)) end)))";
    let id = format!("{:032x}", u128::from_be_bytes(delivery("mail", key).id.to_bytes()));
    assert_eq!(redis.ask(&["EVAL", script, "1", "{evented}:deliveries", &id]).unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_key_whose_head_was_deleted_goes_on_without_another_push() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    // While it waits, with the one after it; and while it runs.
    push(&store, (0..5).map(|number| ordered("mail", &number.to_string(), "a")).collect()).await;
    delete_body(&redis, "0");
    delete_body(&redis, "1");
    assert_eq!(one_after_the_other(&store, Vec::new(), 1).await, ["2"]);
    let running = claim(&store, 10, "mail").await;
    assert_eq!(payloads(&running), ["3"]);
    delete_body(&redis, "3");
    assert_eq!(one_after_the_other(&store, completed(&running), 1).await, ["4"]);
    assert_eq!(count(&store, "mail").await.waiting, 0);
    let left = redis.ask(&["HGETALL", "{evented}:parked"]).unwrap() + &redis.ask(&["KEYS", "*order:*"]).unwrap();
    assert_eq!(left, "");
    assert_eq!(redis.ask(&["HEXISTS", "{evented}:store", "heads"]).unwrap(), "0");
}

/// No claim meets what is in no lane.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_lets_an_order_key_go_on_whose_head_was_deleted_with_all_that_is_its_own() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    // Keys that are whole stand between, more than one sweep looks at.
    let whole = (0..1_200).flat_map(|key| [0, 1].map(|turn| (key, turn)));
    push(&store, whole.map(|(key, turn)| ordered("mail", &format!("{key} {turn}"), &key.to_string())).collect()).await;
    let claimed = claim(&store, 10_000, "mail").await;
    assert_eq!(claimed.len(), 1_200);
    push(&store, (0..3).map(|number| ordered("mail", &number.to_string(), "a")).collect()).await;
    delete_body(&redis, "0");
    let lane = redis.ask(&["KEYS", "*:due:*"]).unwrap();
    redis.ask(&["ZREMRANGEBYRANK", &lane, "0", "0"]).unwrap();
    assert!(claim(&store, 10, "mail").await.is_empty());
    for _ in 0..4 {
        crate::store::admin(&store).sweep(Retention { age: LIMIT, count: 10 }).await.unwrap();
    }
    assert_eq!(one_after_the_other(&store, Vec::new(), 2).await, ["1", "2"]);
    assert_eq!(count(&store, "mail").await.waiting, 1_200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_key_goes_on_where_its_list_was_evicted() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    push(&store, (0..6).map(|number| ordered("mail", &number.to_string(), "a")).collect()).await;
    let running = claim(&store, 10, "mail").await;
    assert_eq!(payloads(&running), ["0"]);
    redis
        .ask(&["EVAL", "return redis.call('DEL', unpack(redis.call('KEYS', '*order:*')))", "1", "{evented}:store"])
        .unwrap();
    assert_eq!(one_after_the_other(&store, completed(&running), 5).await, ["1", "2", "3", "4", "5"]);
    assert_eq!(count(&store, "mail").await.waiting, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_key_goes_on_where_its_lane_was_evicted() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    push(&store, (0..3).map(|number| ordered("mail", &number.to_string(), "a")).collect()).await;
    // One of another key runs, and still does.
    push(&store, (10..12).map(|number| ordered("mail", &number.to_string(), "b")).collect()).await;
    let running = claim(&store, 10, "mail").await;
    assert_eq!(payloads(&running), ["0", "10"]);
    assert!(settle(&store, running[0].lease, Outcome::Released).await);
    let lane = redis.ask(&["KEYS", "*:due:*"]).unwrap();
    redis.ask(&["DEL", &lane]).unwrap();
    assert!(claim(&store, 10, "mail").await.is_empty());
    crate::store::admin(&store).sweep(Retention { age: LIMIT, count: 10 }).await.unwrap();
    assert_eq!(one_after_the_other(&store, Vec::new(), 3).await, ["0", "1", "2"]);
    assert_eq!(one_after_the_other(&store, completed(&running[1..]), 1).await, ["11"]);
    assert_eq!(count(&store, "mail").await.waiting, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_forgotten_while_it_was_quiet_loses_no_push() {
    let Some(redis) = Redis::start(&[]) else { return };
    let mut proxy = Proxy::start(format!("127.0.0.1:{}", redis.port())).await;
    let store = open(&format!("redis://{}", proxy.address())).await;
    record(&store, &["mail"]).await;
    let generation = store.catalogue.read().await.unwrap().generation;
    push(&store, vec![delivery("mail", "order 17")]).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    proxy.hang().await;
    let began = Instant::now();
    let deliveries: Arc<[NewDelivery]> = [delivery("mail", "order 18")].into();
    let refused = store.queue.push(Push::of(generation, deliveries)).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(refused.is_transient());
    assert_eq!(refused.written(), Written::Nothing, "it was not sent over a connection of which nobody knew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_refuses_pushes_and_lets_the_work_go_on() {
    let Some(redis) = Redis::start(&[("maxmemory-policy", "noeviction")]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    push(&store, vec![delivery("mail", "order 17"), ordered("mail", "order 18", "a")]).await;
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    for full in [delivery("mail", "order 19"), ordered("mail", "order 20", "a")] {
        let refused = try_push(&store, vec![full]).await.unwrap_err();
        assert!(refused.is_transient() && refused.to_string().contains("maxmemory"), "{refused:?}");
        assert_eq!(refused.written(), Written::Nothing);
    }
    let claimed = claim(&store, 10, "mail").await;
    assert_eq!(payloads(&claimed), ["order 17", "order 18"]);
    let leases: Vec<_> = claimed.iter().map(|claimed| claimed.lease).collect();
    assert_eq!(store.queue.extend(KEEPER, &leases, LIMIT).await.unwrap(), [true, true]);
    assert_eq!(exchange(&store, completed(&claimed), 10, "mail").await.0, [true, true]);
    assert_eq!(count(&store, "mail").await.done, 2);
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    push(&store, vec![delivery("mail", "order 21")]).await;
    assert_eq!(payloads(&claim(&store, 10, "mail").await), ["order 21"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_nothing_and_is_asked_again_when_it_is_a_master() {
    let (Some(redis), Some(master)) = (Redis::start(&[]), Redis::start(&[])) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    let generation = store.catalogue.read().await.unwrap().generation;
    let pushing = |key: &str| Push::of(generation, [delivery("mail", key)]);
    redis.ask(&["REPLICAOF", "127.0.0.1", &free(&master)]).unwrap();
    let refused = store.queue.push(pushing("order 17")).await.unwrap_err();
    assert!(refused.is_transient() && refused.to_string().contains("replica"), "{refused:?}");
    assert_eq!(refused.written(), Written::Nothing);
    redis.ask(&["REPLICAOF", "NO", "ONE"]).unwrap();
    timeout(DEADLINE, async { push(&store, vec![delivery("mail", "order 18")]).await }).await.unwrap();
}

/// A port on which nobody listens: the replica keeps what it has, since it finds no master.
fn free(server: &Redis) -> String {
    (server.port() ^ 1).to_string()
}

#[tokio::test]
async fn a_key_of_another_kind_is_a_lasting_error() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    redis.ask(&["SET", "{evented}:deliveries", "something else"]).unwrap();
    let refused = try_push(&store, vec![delivery("mail", "order 17")]).await.unwrap_err();
    assert!(!refused.is_transient() && refused.to_string().contains("`?prefix=`"), "{refused:?}");
    let _still_answers: Store = open(&redis.url()).await;
}
