//! Rows of a store in Postgres that a person deletes, and what their columns do not take.

use std::{sync::Arc, time::Duration};

use evented::{
    DeliveryId, Key, Policy,
    sqlx::{PgPool, query},
    store::{
        CatalogueEntry, Elsewhere, Fan, NewDelivery, OutboxRow, Outcome, Relay, Relayed, Retention, Route, Settlement,
        Store, open_outbox, open_queue,
    },
};
use evented_tests::{eventually, servers::Postgres};

use crate::store::record;

const LONG: Duration = Duration::from_mins(1);

fn mail() -> CatalogueEntry {
    CatalogueEntry {
        handler: "mail".into(),
        aliases: Vec::new(),
        event: "Sailed".to_owned(),
        event_aliases: Vec::new(),
        route: Route::Background,
        queue: "default".to_owned(),
        policy: Policy::DEFAULT,
        unique: None,
        ordered_by: None,
    }
}

/// All goes elsewhere, under one key.
fn goes_in_order(row: &OutboxRow) -> Fan {
    let delivery = NewDelivery {
        id: DeliveryId::derive(row.event_id, "mail"),
        event_id: row.event_id,
        handler: "mail".into(),
        origin: row.origin.clone(),
        version: row.version,
        emitted_unix_ms: Some(row.emitted_unix_ms),
        delay: Duration::ZERO,
        policy: Policy::DEFAULT,
        unique: None,
        order: Some(Key::derive("mail", "one")),
        payload: row.payload.clone(),
    };
    Fan { elsewhere: vec![delivery], ..Fan::default() }
}

async fn turn(store: &Store) -> Relayed {
    let relay = Relay {
        generation: store.catalogue.read().await.unwrap().generation,
        rows: 100,
        bytes: usize::MAX,
        lease: LONG,
        target: Some("the queue".into()),
        elsewhere: Elsewhere::Lease,
        fan_out: Arc::new(goes_in_order),
        claim: None,
    };
    crate::store::outbox(store).relay(relay).await.unwrap()
}

async fn emit(server: &Postgres, url: &str, rows: std::ops::Range<u32>) {
    let sql = format!(
        "insert into evented_outbox (event_id, event, due_at, emitted_at, version, payload)
         select decode(lpad(n::text, 32, '0'), 'hex'), 'Sailed', 0, 1, 1, '' from generate_series({}, {}) n",
        rows.start,
        rows.end - 1
    );
    tokio::task::block_in_place(|| server.ask(url, &sql)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_somebody_deletes_holds_up_nobody() {
    let Some(server) = tokio::task::block_in_place(Postgres::shared) else { return };
    let url = server.database();
    let store = open_outbox(&url).await.unwrap();
    record(&store, [mail()]).await;
    let pool = PgPool::connect(&url).await.unwrap();
    emit(server, &url, 1..2).await;
    assert_eq!(turn(&store).await.claimed.len(), 1);
    emit(server, &url, 2..4).await;
    let relayed = turn(&store).await;
    assert_eq!((relayed.put_off, relayed.claimed.len()), (2, 0), "they wait for the first");
    query("delete from evented_outbox where held <> 0").execute(&pool).await.unwrap();
    emit(server, &url, 4..5).await;
    let mut rest = Vec::new();
    eventually("those that waited can be taken", async || {
        query("update evented_outbox set due_at = 1 where target is not null and held = 0")
            .execute(&pool)
            .await
            .unwrap();
        rest.extend(turn(&store).await.claimed);
        rest.len() == 3
    })
    .await;
    assert!(rest.is_sorted_by_key(|row| row.row));
    assert_eq!(crate::store::outbox(&store).finish(rest).await.unwrap(), [true; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_somebody_holds_is_not_waited_for() {
    let Some(server) = tokio::task::block_in_place(Postgres::shared) else { return };
    let url = server.database();
    let store = open_outbox(&url).await.unwrap();
    record(&store, [mail()]).await;
    let pool = PgPool::connect(&url).await.unwrap();
    emit(server, &url, 1..3).await;
    let mut holder = pool.begin().await.unwrap();
    query("select seq from evented_outbox order by seq limit 1 for update").execute(&mut *holder).await.unwrap();
    let relayed = tokio::time::timeout(Duration::from_secs(4), turn(&store)).await.expect("it waits for nobody");
    assert_eq!(relayed.claimed.len(), 0, "the other one is of the same order key");
    holder.rollback().await.unwrap();
    let mut rows = Vec::new();
    eventually("both can be taken", async || {
        rows.extend(turn(&store).await.claimed);
        rows.len() == 2
    })
    .await;
    assert!(rows.is_sorted_by_key(|row| row.row));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_somebody_deleted_has_its_deliveries_again_and_no_other_has_them() {
    let Some(server) = tokio::task::block_in_place(Postgres::shared) else { return };
    let url = server.database();
    let store = open_outbox(&url).await.unwrap();
    record(&store, [mail()]).await;
    super::push(&store, super::delivery("order 17")).await.unwrap();
    tokio::task::block_in_place(|| server.ask(&url, "truncate evented_handlers restart identity")).unwrap();
    record(&store, [CatalogueEntry { handler: "another".into(), ..mail() }]).await;
    let of_another = "select count(*) from evented_deliveries d join evented_handlers h on h.num = d.handler";
    assert_eq!(tokio::task::block_in_place(|| server.ask(&url, of_another)).unwrap(), "0");
    record(&store, [mail()]).await;
    assert_eq!(tokio::task::block_in_place(|| server.ask(&url, of_another)).unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_the_databases_encoding_does_not_have_is_written_so_that_it_can_be_read() {
    let Some(server) = tokio::task::block_in_place(Postgres::shared) else { return };
    let url = server.database();
    let (base, name) = url.rsplit_once('/').unwrap();
    let name = name.split('?').next().unwrap();
    let sql = format!("create database {name}_latin encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0");
    tokio::task::block_in_place(|| server.ask(&url, &sql)).unwrap();
    let store = super::open(&format!("{base}/{name}_latin")).await;
    for order in ["order 1", "order 2", "order 3"] {
        super::push(&store, super::delivery(order)).await.unwrap();
    }
    let claimed = super::claim_from(&store, 3).await.unwrap().deliveries;
    let error = || "no way: \u{1f600}".to_owned();
    let outcomes = [
        Outcome::Completed,
        Outcome::Retry { delay: LONG, error: error() },
        Outcome::Dead { failed: 1, error: error() },
    ];
    let ends = claimed.iter().zip(outcomes).map(|(claimed, outcome)| Settlement { lease: claimed.lease, outcome });
    let held = store.queue.exchange(ends.collect(), None).await.unwrap().held;
    assert_eq!(held, [true; 3]);
    let letters = crate::store::admin(&store).dead_letters(None, 10).await.unwrap();
    assert_eq!(letters[0].error, "no way: \\360\\237\\230\\200");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_key_whose_first_delivery_a_person_deleted_goes_on() {
    let Some(server) = tokio::task::block_in_place(Postgres::shared) else { return };
    let url = server.database();
    let store = open_queue(&url).await.unwrap();
    record(&store, [mail()]).await;
    for key in 0..40 {
        for turn in 0..3 {
            let order = Some(Key::derive("mail", &key.to_string()));
            super::push(&store, NewDelivery { order, ..super::delivery(&format!("{key} {turn}")) }).await.unwrap();
        }
    }
    let ask = |text: &str| tokio::task::block_in_place(|| server.ask(&url, text)).unwrap();
    ask("delete from evented_deliveries where seq in (1, 4)");
    let due = "select count(*) from evented_deliveries where due_at < 9223372036854775807";
    assert_eq!(ask(due), "38");
    crate::store::admin(&store).sweep(Retention { age: Duration::from_mins(1), count: 10 }).await.unwrap();
    assert_eq!(ask(due), "40");
    assert_eq!(ask(&format!("{due} and seq in (2, 5)")), "2", "the next of each, and no more");
}
