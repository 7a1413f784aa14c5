//! A server that takes what is sent and never answers: what waits for it is bounded, and everybody is told in time.

use std::time::{Duration, Instant};

use evented::{
    DeliveryId, EventId, Origin, Policy, Written,
    store::{NewDelivery, Push, open_queue},
};
use evented_tests::{
    proxy::Proxy,
    servers::{Postgres, Redis},
};
use tokio::task::JoinSet;

fn push(number: usize, bytes: usize) -> Push {
    let event_id = EventId::from_key(&number.to_string());
    let delivery = NewDelivery {
        id: DeliveryId::derive(event_id, "mail"),
        event_id,
        handler: "mail".into(),
        origin: Origin::of(event_id),
        version: 1,
        emitted_unix_ms: None,
        delay: Duration::ZERO,
        policy: Policy::DEFAULT,
        unique: None,
        order: None,
        payload: vec![0; bytes].into(),
    };
    Push::of(1, [delivery])
}

/// More pushes than may wait.
const PUSHES: usize = 15_000;

/// So many pushes of so many bytes, of which so many find room.
async fn everybody_is_told(target: String, url: impl Fn(String) -> String, pushes: usize, bytes: usize, room: usize) {
    let mut proxy = Proxy::start(target).await;
    let store = open_queue(url(proxy.address().to_string())).await.unwrap();
    proxy.hang().await;
    let began = Instant::now();
    let mut pushing = JoinSet::new();
    for number in 0..pushes {
        let store = store.clone();
        pushing.spawn(async move { store.queue.push(push(number, bytes)).await.unwrap_err() });
    }
    let errors = pushing.join_all().await;
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert!(errors.iter().all(evented::StoreError::is_transient));
    let had_no_room: Vec<_> = errors.iter().filter(|error| error.to_string().contains("already wait")).collect();
    assert!(had_no_room.len() >= pushes - room, "{} had no room", had_no_room.len());
    assert!(had_no_room.iter().all(|error| error.written() == Written::Nothing));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_postgres_that_swallows_is_bounded() {
    let Some(server) = Postgres::shared() else { return };
    let (database, target) = (server.database(), format!("127.0.0.1:{}", server.port()));
    everybody_is_told(target.clone(), |address| database.replace(&target, &address), PUSHES, 100, 10_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_redis_that_swallows_is_bounded() {
    let Some(server) = Redis::shared() else { return };
    let prefix = server.prefix();
    let target = format!("127.0.0.1:{}", server.port());
    everybody_is_told(target, |address| format!("redis://{address}/0?prefix={prefix}"), PUSHES, 100, 10_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_server_that_swallows_is_bounded_in_bytes() {
    let Some(server) = Postgres::shared() else { return };
    let (database, target) = (server.database(), format!("127.0.0.1:{}", server.port()));
    // The room has 64 MiB.
    everybody_is_told(target.clone(), |address| database.replace(&target, &address), 90, 1 << 20, 64).await;
}
