//! Outbox rows that go elsewhere: those that wait are not looked at, and go on when what they wait for has ended, however that was.

use std::{sync::Arc, time::Duration};

use evented::{
    DeliveryId, EventId, Key,
    sqlx::{
        Connection, Executor, SqliteConnection, SqlitePool, query,
        sqlite::{SqliteConnectOptions, SqliteJournalMode},
    },
    store::{Elsewhere, Fan, Feed, NewDelivery, OutboxRow, PutBack, Relay, Relayed, Store, open_queue},
};
use evented_tests::Place;

use super::{LONG, delivery, handler, number, open, run};
use crate::store::record;

const QUEUE: &str = "the queue";

/// Writes rows whose payload is their order key.
async fn emit(pool: &SqlitePool, keys: &[&str]) {
    for (number, key) in keys.iter().enumerate() {
        let id = EventId::from_key(&format!(
            "{key} {number} {}",
            self::number(pool, "select count(*) from evented_outbox").await
        ));
        let sql = "insert into evented_outbox (event_id, event, due_at, version, emitted_at, payload) values (?, 'Paid', 1, 1, 1, ?)";
        query(sql).bind(id.to_bytes().to_vec()).bind(key.as_bytes().to_vec()).execute(pool).await.unwrap();
    }
}

async fn turn(store: &Store, rows: usize, elsewhere: Elsewhere) -> Relayed {
    let fan_out = |row: &OutboxRow| {
        let key = String::from_utf8_lossy(&row.payload).into_owned();
        let elsewhere = NewDelivery {
            id: DeliveryId::derive(row.event_id, "mail"),
            event_id: row.event_id,
            order: Some(Key::derive("mail", &key)),
            ..delivery("mail", "replaced")
        };
        Fan { elsewhere: vec![elsewhere], ..Fan::default() }
    };
    let relay = Relay {
        generation: store.catalogue.read().await.unwrap().generation,
        rows,
        bytes: usize::MAX,
        lease: LONG,
        target: Some(QUEUE.into()),
        elsewhere,
        fan_out: Arc::new(fan_out),
        claim: None,
    };
    crate::store::outbox(store).relay(relay).await.unwrap()
}

fn numbers(rows: &[OutboxRow]) -> Vec<i64> {
    rows.iter().map(|row| row.row).collect()
}

async fn new(place: &Place) -> (SqlitePool, Store) {
    let pool = place.pool().await;
    let store = open(place).await;
    record(&store, [handler("mail")]).await;
    (pool, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_its_turn_is_not_due_and_goes_on_together() {
    let place = Place::new();
    let (pool, store) = new(&place).await;
    emit(&pool, &["ada"]).await;
    let first = turn(&store, 10, Elsewhere::Lease).await.claimed;
    emit(&pool, &["ada", "ada", "bob", "ada"]).await;
    let others = turn(&store, 10, Elsewhere::Lease).await;
    assert_eq!((numbers(&others.claimed), others.put_off), (vec![4], 3));
    // The first is put back for long: who comes meanwhile does not look at those behind it.
    let back = PutBack { row: first[0].clone(), delay: LONG, error: Some("refused".to_owned()) };
    crate::store::outbox(&store).put_back(vec![back]).await.unwrap();
    let idle = turn(&store, 10, Elsewhere::Lease).await;
    assert_eq!((idle.claimed.len(), idle.put_off), (0, 0));
    assert!(idle.next_due.is_some_and(|next| next > LONG / 2), "{idle:?}");
    let refused = "select count(*) from evented_outbox where error = 'refused'";
    assert_eq!(number(&pool, refused).await, 1, "what stands in its way is kept with the row");
    // The first comes again, and with it nobody; when it is finished, the others come at once.
    run(&pool, "update evented_outbox set due_at = 1 where seq = 1").await;
    let again = turn(&store, 10, Elsewhere::Lease).await.claimed;
    assert_eq!(numbers(&again), [1]);
    assert_eq!(crate::store::outbox(&store).finish(again).await.unwrap(), [true]);
    let rest = turn(&store, 10, Elsewhere::Lease).await.claimed;
    assert_eq!(numbers(&rest), [2, 3, 5]);
    assert_eq!(crate::store::outbox(&store).finish(rest).await.unwrap(), [true; 3]);
    assert_eq!(number(&pool, "select count(*) from evented_outbox_keys").await, 1, "of bob's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_a_person_deletes_lets_the_next_of_its_key_go() {
    let place = Place::new();
    let (pool, store) = new(&place).await;
    emit(&pool, &["ada"]).await;
    assert_eq!(turn(&store, 10, Elsewhere::Lease).await.claimed.len(), 1);
    emit(&pool, &["ada", "ada"]).await;
    assert_eq!(turn(&store, 10, Elsewhere::Lease).await.claimed.len(), 0);
    run(&pool, "delete from evented_outbox where seq = 1").await;
    assert_eq!(numbers(&turn(&store, 10, Elsewhere::Lease).await.claimed), [2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_rows_of_a_key_are_taken_in_order_whenever_they_are_due() {
    let place = Place::new();
    let (pool, store) = new(&place).await;
    emit(&pool, &["ada", "ada", "ada", "ada"]).await;
    // The clock was set back after the first was written.
    run(&pool, "update evented_outbox set due_at = 1000 where seq = 1").await;
    let mut taken = Vec::new();
    for _ in 0..20 {
        let rows = turn(&store, 1, Elsewhere::Lease).await.claimed;
        taken.extend(numbers(&rows));
        crate::store::outbox(&store).finish(rows).await.unwrap();
    }
    assert_eq!(taken, [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_were_left_keep_their_order_when_another_queue_is_adopted() {
    let place = Place::new();
    let (pool, store) = new(&place).await;
    crate::store::outbox(&store).feed(Feed::First("another queue".into())).await.unwrap();
    emit(&pool, &["ada", "bob", "ada"]).await;
    let generation = store.catalogue.read().await.unwrap().generation;
    let left = turn(&store, 10, Elsewhere::Leave(Duration::ZERO)).await;
    assert_eq!(left.put_off, 3);
    run(&pool, "update evented_outbox set target = 'another queue'").await;
    run(&pool, "update evented_outbox_keys set target = 'another queue'").await;
    crate::store::outbox(&store).feed(Feed::Adopt(QUEUE.into())).await.unwrap();
    assert_ne!(
        store.catalogue.read().await.unwrap().generation,
        generation,
        "relays that know the other queue look again"
    );
    emit(&pool, &["ada"]).await;
    let rows = turn(&store, 10, Elsewhere::Lease).await.claimed;
    assert_eq!(numbers(&rows), [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_file_that_keeps_text_as_utf_16_is_refused_by_name() {
    let place = Place::new();
    let options = SqliteConnectOptions::new().filename(place.path("evented.db")).create_if_missing(true);
    let options = options.journal_mode(SqliteJournalMode::Wal);
    let mut conn = SqliteConnection::connect_with(&options.pragma("encoding", "'UTF-16'")).await.unwrap();
    conn.execute("create table theirs (name text)").await.unwrap();
    conn.close().await.unwrap();
    let refused = open_queue(place.queue()).await.expect_err("it is refused").to_string();
    assert!(refused.contains("evented.db") && refused.contains("UTF-16"), "{refused}");
}
