//! Transactional handlers on the `background` route: their deliveries lie in the queue, their effects in the application's
//! database, and both happen once.

use std::time::Duration;

use evented::{
    ErrorKind, EventId,
    prelude::*,
    sqlx::{self, SqlitePool, query, query_scalar},
};
use evented_tests::{Place, Seen, count_of, eventually, open_pool, tamper};
use serde::{Deserialize, Serialize};
use tokio::{runtime::Handle, task::block_in_place};

#[event]
#[derive(Serialize, Deserialize)]
struct Weighed {
    grams: i64,
}

#[handler(Weighed, background(retries = 1, backoff(fixed = "1ms")))]
async fn book(event: Weighed, tx: &mut Tx<Sqlite>, seen: State<Seen>, delivery: Delivery) -> anyhow::Result<()> {
    seen.note(format!("weighed {}", event.grams));
    query("insert into ledger values (?)").bind(event.grams).execute(&mut **tx).await?;
    anyhow::ensure!(event.grams > 0 || delivery.attempt() > 1, "the scales are not level");
    emit_in(tx, Booked { grams: event.grams }).await?;
    Ok(())
}

#[event(transactional)]
#[derive(Serialize, Deserialize)]
struct Booked {
    grams: i64,
}

#[handler(Booked, outbox)]
async fn tell(event: Booked, seen: State<Seen>) {
    seen.note(format!("booked {}", event.grams));
}

async fn ledger(pool: &SqlitePool) -> Vec<i64> {
    query_scalar("select entry from ledger order by entry").fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn what_a_handler_writes_and_emits_happens_once_although_its_delivery_runs_twice() {
    let (place, seen) = (Place::new(), Seen::default());
    let pool = open_pool(place.path("shop.db")).await;
    let app = run!(place, seen).outbox(pool.clone()).await.unwrap();
    let id = EventId::from_key("the parcel");
    app.emit(Weighed { grams: 500 }).id(id).await.unwrap();
    app.until_idle().await.unwrap();
    // As after a crash between the commit and the settlement: the delivery is there again.
    tamper(&place, "delete from evented_once").await;
    app.emit(Weighed { grams: 500 }).id(id).await.unwrap();
    app.until_idle().await.unwrap();
    assert_eq!(ledger(&pool).await, [500]);
    assert_eq!((seen.count("weighed 500"), seen.count("booked 500")), (1, 1));
    assert_eq!(count_of(&app, "Weighed/book").await.done, 2);
}

#[tokio::test]
async fn a_failed_attempt_leaves_nothing_and_the_next_one_runs() {
    let (place, seen) = (Place::new(), Seen::default());
    let pool = open_pool(place.path("shop.db")).await;
    let app = run!(place, seen).outbox(pool.clone()).await.unwrap();
    app.emit(Weighed { grams: 0 }).await.unwrap();
    app.until_idle().await.unwrap();
    assert_eq!(ledger(&pool).await, [0]);
    let count = count_of(&app, "Weighed/book").await;
    assert_eq!((count.done, count.retried, seen.count("booked 0")), (1, 1, 1));
}

#[tokio::test]
async fn one_older_than_its_database_remembers_is_a_dead_letter() {
    let (place, seen) = (Place::new(), Seen::default());
    let pool = open_pool(place.path("shop.db")).await;
    let emits = run!(place, seen).outbox(pool.clone()).role(Role::Emit).await.unwrap();
    emits.emit(Weighed { grams: 1 }).await.unwrap();
    emits.stop().await;
    tamper(&place, "update evented_deliveries set emitted_at = emitted_at - 31 * 86400000").await;
    let app = run!(place, seen).outbox(pool.clone()).await.unwrap();
    eventually("it is given up", async || count_of(&app, "Weighed/book").await.dead == 1).await;
    let letters = app.dead_letters().await.unwrap();
    assert!(letters[0].error.contains("does not remember any more whether it ran"), "{}", letters[0].error);
    assert!(ledger(&pool).await.is_empty() && seen.all().is_empty());
}

#[event]
#[derive(Serialize, Deserialize)]
struct Sealed {
    number: i64,
}

/// It gives its worker no moment in which to look at anything else.
#[handler(Sealed, background)]
async fn seal(event: Sealed, tx: &mut Tx<Sqlite>, seen: State<Seen>) -> anyhow::Result<()> {
    seen.note(format!("sealed {}", event.number));
    let writing = query("insert into ledger values (?)").bind(event.number).execute(&mut **tx);
    block_in_place(|| Handle::current().block_on(writing))?;
    Ok(())
}

/// As after a process stood still, or its host slept, for longer than it is remembered what ran.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_lease_is_over_when_its_transaction_begins_does_not_run() {
    const LEASE: Duration = Duration::from_secs(1);
    let (place, seen) = (Place::new(), Seen::default());
    let pool = open_pool(place.path("shop.db")).await;
    let app = run!(place, seen).outbox(pool.clone()).lease(LEASE).await.unwrap();
    let held_up = evented::begin(&pool).await.unwrap();
    app.emit(Sealed { number: 1 }).await.unwrap();
    eventually("it is claimed", async || count_of(&app, "Sealed/seal").await.running == 1).await;
    // Another has run it and settled it, which is forgotten by now.
    tamper(&place, "delete from evented_deliveries").await;
    tokio::time::sleep(2 * LEASE).await;
    held_up.rollback().await.unwrap();
    app.emit(Sealed { number: 2 }).await.unwrap();
    eventually("the next one runs", async || seen.count("sealed 2") == 1).await;
    app.until_idle().await.unwrap();
    assert_eq!((ledger(&pool).await, seen.all()), (vec![2], vec!["sealed 2".to_owned()]));
}

/// Nobody but a person mends it, and who waits for its order key must not wait for ever.
#[tokio::test]
async fn a_transaction_that_can_never_be_run_is_a_failed_attempt() {
    let (place, seen) = (Place::new(), Seen::default());
    let pool = open_pool(place.path("shop.db")).await;
    let app = run!(place, seen).outbox(pool.clone()).await.unwrap();
    query("drop table evented_inbox").execute(&pool).await.unwrap();
    app.emit(Weighed { grams: 1 }).await.unwrap();
    eventually("it is a dead letter", async || count_of(&app, "Weighed/book").await.dead == 1).await;
    let letters = app.dead_letters().await.unwrap();
    assert_eq!(letters[0].attempts, 2);
    assert!(letters[0].error.contains("evented_inbox"), "{}", letters[0].error);
    assert!(ledger(&pool).await.is_empty());
}

#[tokio::test]
async fn without_its_database_the_start_is_refused_and_names_the_handler() {
    let (place, seen) = (Place::new(), Seen::default());
    let error = run!(place, seen).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Boot);
    let text = error.to_string();
    assert!(text.contains("handler `Weighed/book` (tests/it/inbox.rs:"), "{text}");
    assert!(text.contains("give `run()` a pool of that database with `.outbox(pool)`"), "{text}");
}

/// A handler is a function, and a test calls it as one.
#[tokio::test]
async fn a_test_calls_it_with_its_own_transaction() -> Result<(), sqlx::Error> {
    let (place, seen) = (Place::new(), Seen::default());
    let pool = open_pool(place.path("shop.db")).await;
    let mut tx = evented::begin(&pool).await?;
    let error = book(Weighed { grams: 0 }, Tx::of(&mut tx), State::new(seen), Delivery::test()).await.unwrap_err();
    assert_eq!(error.to_string(), "the scales are not level");
    tx.rollback().await
}
