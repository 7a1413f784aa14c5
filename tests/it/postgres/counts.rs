//! The counters beside the deliveries, where others change deliveries and count nothing: a process of the release before, during a
//! rolling deploy, and a person.

use std::time::Duration;

use evented::{
    sqlx::{Connection, PgConnection, PgPool, query},
    store::{Outcome, Push, Retention, Settlement, Store},
};
use evented_tests::{DEADLINE, eventually, servers::Postgres};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{LEASE, claim_from, complete, delivery, open, push};

/// What waits and what runs, as the counters have it.
async fn counted(store: &Store) -> (u64, u64) {
    let stats = crate::store::admin(store).stats().await.unwrap();
    (stats.handlers[0].waiting, stats.handlers[0].running)
}

async fn sweep(store: &Store) {
    while crate::store::admin(store).sweep(Retention { age: LEASE, count: 10 }).await.unwrap().more {}
}

/// Stores so many deliveries as the release before does, and leases the first.
fn store_as_before(count: usize) -> String {
    format!(
        "insert into evented_deliveries (handler, id, event_id, due_at, lease, attempts_max, backoff_first_ms, timeout_ms, version,
            emitted_at, payload)
         select (select num from evented_handlers where id = 'mail'), decode(md5(n::text), 'hex'), decode(md5(n::text), 'hex'),
            9000000000000, case when n = 1 then 1 end, 3, 1, 1000, 1, 1, '' from generate_series(1, {count}) n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_counts_again_what_others_changed_and_did_not_count() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let store = open(&url).await;
    for number in 0..6 {
        push(&store, delivery(&number.to_string())).await.unwrap();
    }
    let claimed = claim_from(&store, 2).await.unwrap().deliveries;
    server.ask(&url, "delete from evented_deliveries where lease is not null or seq = 6").unwrap();
    sweep(&store).await;
    assert_eq!(counted(&store).await, (3, 0), "a person deleted three, of which two ran");
    assert!(!complete(&store, &claimed[0]).await);
    server.ask(&url, &store_as_before(4)).unwrap();
    sweep(&store).await;
    assert_eq!(counted(&store).await, (6, 1), "the release before stored four");
    // A settlement of the release before.
    server.ask(&url, "delete from evented_deliveries where lease = 1").unwrap();
    let claimed = claim_from(&store, 1).await.unwrap().deliveries.remove(0);
    sweep(&store).await;
    assert_eq!(counted(&store).await, (5, 1));
    assert!(complete(&store, &claimed).await);
    assert_eq!(counted(&store).await, (5, 0), "what is counted after it is added to it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_leaves_the_counters_of_many_deliveries_alone() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let store = open(&url).await;
    server.ask(&url, &store_as_before(10_001)).unwrap();
    sweep(&store).await;
    assert_eq!(counted(&store).await, (0, 0));
    server.ask(&url, "delete from evented_deliveries where lease = 1").unwrap();
    sweep(&store).await;
    assert_eq!(counted(&store).await, (10_000, 0));
}

/// Pushes deliveries and settles them in each way, in rounds, and leaves one in each that waits.
async fn work(store: Store, name: &'static str) {
    let generation = store.catalogue.read().await.unwrap().generation;
    for round in 0..40 {
        let deliveries: Vec<_> = (0..4).map(|number| delivery(&format!("{name} {round} {number}"))).collect();
        store.queue.push(Push::of(generation, deliveries)).await.unwrap();
        let claimed = claim_from(&store, 3).await.unwrap().deliveries;
        let outcomes = [
            Outcome::Completed,
            Outcome::Dead { failed: 1, error: "no such address".to_owned() },
            Outcome::Retry { delay: Duration::ZERO, error: "the mail server is away".to_owned() },
        ];
        let ended = claimed.iter().zip(outcomes).map(|(claimed, outcome)| Settlement { lease: claimed.lease, outcome });
        store.queue.exchange(ended.collect(), None).await.unwrap();
    }
    // What runs at the end.
    claim_from(&store, 5).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counting_again_beside_pushes_and_settlements_loses_none_of_them() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let store = open(&url).await;
    let (ended, _) = watch::channel(false);
    let mut sweeping = JoinSet::new();
    for _ in 0..2 {
        let (store, ended) = (open(&url).await, ended.subscribe());
        sweeping.spawn(async move {
            while !*ended.borrow() {
                sweep(&store).await;
            }
        });
    }
    // As long as they go on there is something to put right.
    let (pool, still) = (PgPool::connect(&url).await.unwrap(), ended.subscribe());
    let spoiling = tokio::spawn(async move {
        while !*still.borrow() {
            let wrong = "update evented_handlers set stored = stored + 5, running = running + 3";
            query(wrong).execute(&pool).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    let mut working = JoinSet::new();
    for name in ["one", "two", "three"] {
        working.spawn(work(open(&url).await, name));
    }
    working.join_all().await;
    ended.send_replace(true);
    spoiling.await.unwrap();
    sweeping.join_all().await;
    // From here on nothing is wrong any more, but for what the last spoiling left, which these put right beside the work.
    let mut working = JoinSet::new();
    working.spawn(work(open(&url).await, "four"));
    for _ in 0..20 {
        sweep(&store).await;
    }
    working.join_all().await;
    let rows = server.ask(&url, "select count(*) - count(lease), count(lease) from evented_deliveries").unwrap();
    let (waiting, running) = counted(&store).await;
    assert!(waiting > 100 && running > 5, "{rows}");
    assert_eq!(format!("{waiting}|{running}"), rows);
}

/// Another process adds counts up that this one has read, and comes to its end while this one waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_that_are_added_up_beside_it_are_not_taken_twice() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let store = open(&url).await;
    for number in 0..3 {
        push(&store, delivery(&number.to_string())).await.unwrap();
    }
    server.ask(&url, "update evented_handlers set stored = stored + 5").unwrap();
    let mut other = PgConnection::connect(&url).await.unwrap();
    let mut tx = other.begin().await.unwrap();
    let adds_up = "with taken as (delete from evented_counts returning stored)
        update evented_handlers set stored = stored + (select sum(stored) from taken)";
    query(adds_up).execute(&mut *tx).await.unwrap();
    let sweeping = tokio::spawn(async move {
        sweep(&store).await;
        store
    });
    let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    eventually("the sweep waits", async || server.ask(&url, waits).unwrap() == "1").await;
    tx.commit().await.unwrap();
    let store = timeout(DEADLINE, sweeping).await.expect("it waits for nobody").unwrap();
    assert_eq!(counted(&store).await, (3, 0));
}
