//! A server that cannot be reached for a while: emits say so, the worker goes on by itself, and the instance is not well
//! meanwhile.

use evented::{ErrorKind, prelude::*};
use evented_tests::{
    Seen, eventually,
    proxy::Proxy,
    servers::{Postgres, Redis},
};
use serde::{Deserialize, Serialize};

#[event]
#[derive(Serialize, Deserialize)]
struct Called {
    number: u32,
}

#[handler(Called, background)]
async fn answer(event: Called, seen: State<Seen>) {
    seen.note(format!("answered {}", event.number));
}

/// Goes through an episode of the network between an instance and its queue. `url` makes the queue's URL of an address.
async fn goes_on(target: String, url: impl Fn(String) -> String) {
    let mut proxy = Proxy::start(target).await;
    let seen = Seen::default();
    let run = evented::run().install(false).module(module_path!()).state(seen.clone());
    let app = run.queue(url(proxy.address().to_string())).await.unwrap();
    app.emit(Called { number: 1 }).await.unwrap();
    eventually("it works", async || seen.count("answered 1") == 1).await;
    assert!(app.health().is_ok(), "{}", app.health());

    proxy.cut().await;
    eventually("it is told", async || !app.health().is_ok()).await;
    assert!(app.health().to_string().contains("working off"), "{}", app.health());
    let error = app.emit(Called { number: 2 }).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotStored | ErrorKind::Unknown), "{error:?}");

    proxy.mend().await;
    eventually("emits work again", async || app.emit(Called { number: 3 }).await.is_ok()).await;
    eventually("the worker goes on", async || seen.count("answered 3") > 0).await;
    eventually("it is well again", async || app.health().is_ok()).await;
    app.until_idle().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_on_redis_goes_on_by_itself_after_the_network_was_cut() {
    let Some(redis) = Redis::shared() else { return };
    let prefix = redis.prefix();
    goes_on(format!("127.0.0.1:{}", redis.port()), |address| format!("redis://{address}/0?prefix={prefix}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_on_postgres_goes_on_by_itself_after_the_network_was_cut() {
    let Some(postgres) = Postgres::shared() else { return };
    let database = postgres.database();
    let target = format!("127.0.0.1:{}", postgres.port());
    goes_on(target.clone(), |address| database.replace(&target, &address)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_does_not_answer_is_told_before_it_is_given_up() {
    let Some(postgres) = Postgres::shared() else { return };
    let (database, target) = (postgres.database(), format!("127.0.0.1:{}", postgres.port()));
    let mut proxy = Proxy::start(&target).await;
    let seen = Seen::default();
    let run = evented::run().install(false).module(module_path!()).state(seen.clone());
    let app = run.queue(database.replace(&target, &proxy.address().to_string())).await.unwrap();
    app.emit(Called { number: 1 }).await.unwrap();
    eventually("it has its connections", async || seen.count("answered 1") == 1).await;
    proxy.hang().await;
    eventually("it is silent", async || app.health().to_string().contains("it does not answer")).await;
    proxy.mend().await;
    eventually("it is well again", async || app.health().is_ok()).await;
}
