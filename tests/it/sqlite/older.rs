//! A file that an earlier release made.

use std::time::Duration;

use evented::store::{Elsewhere, Fan, Relay};
use evented_tests::Place;
use std::sync::Arc;

use super::{claim, handler, number, open, run};
use crate::store::record;

const SCHEMA_2: &str = include_str!("schema_2.sql");

const ROWS: &str = "
    insert into evented_handlers (num, id, event, route, queue, attempts_max, backoff_first_ms, backoff_max_ms, timeout_ms,
        aliases, event_aliases, retired, done) values
        (1, 'mail', 'OrderPlaced', 'background', 'default', 5, 100, 1000, 60000, '[]', '[]', 0, 7),
        (2, 'stock', 'OrderPlaced', 'background', 'default', 5, 100, 1000, 60000, '[]', '[]', 0, 0),
        (3, 'gone', 'OrderPlaced', 'background', 'default', 5, 100, 1000, 60000, '[]', '[]', 1, 0);
    insert into evented_deliveries (id, event_id, handler, due_at, lease, attempts_max, backoff_first_ms, timeout_ms, version,
        emitted_at, payload)
    select unhex(printf('%032x', value)), unhex(printf('%032x', value)), 1 + value % 2,
        iif(value < 3, 4000000000000, 1000), iif(value < 3, 99, null), 5, 100, 60000, 1, 1000, 'x' || value
    from (with n(value) as (select 0 union all select value + 1 from n where value < 9) select value from n);
    insert into evented_outbox (event_id, event, due_at, lease, version, emitted_at, payload) values
        (unhex(printf('%032x', 100)), 'OrderPlaced', 1000, 17, 1, 1000, 'a'),
        (unhex(printf('%032x', 101)), 'OrderPlaced', 1000, 0, 1, 1000, 'b');";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_the_schema_before_goes_on_with_all_that_it_has() {
    let place = Place::new();
    let pool = place.pool().await;
    run(&pool, SCHEMA_2).await;
    // A literal of bytes, which the table asks for.
    run(
        &pool,
        &ROWS.replace("'x' || value", "cast('x' || value as blob)").replace("'a')", "x'61')").replace("'b')", "x'62')"),
    )
    .await;
    let store = open(&place).await;
    let catalogue = store.catalogue.read().await.unwrap();
    assert_eq!((catalogue.handlers.len(), catalogue.retired), (2, vec!["gone".to_owned()]));
    assert_ne!(catalogue.generation, 5, "it is another for those that run with the old tables");
    let counts: Vec<_> = crate::store::admin(&store).stats().await.unwrap().handlers;
    let told: Vec<_> = counts.iter().map(|count| (&*count.handler, count.waiting, count.running, count.done)).collect();
    assert_eq!(told, [("gone", 0, 0, 0), ("mail", 3, 2, 7), ("stock", 4, 1, 0)]);
    // A handler that was retired, nobody knows when, is back where it is recorded.
    record(&store, [handler("gone")]).await;
    assert_eq!(store.catalogue.read().await.unwrap().handlers.len(), 3);
    assert_eq!(claim(&store, &["mail", "stock"], 100, Duration::from_secs(9)).await.len(), 7);
    // Rows that were leased by an old relay, or waited for others, are new ones.
    let relay = Relay {
        generation: store.catalogue.read().await.unwrap().generation,
        rows: 10,
        bytes: usize::MAX,
        lease: Duration::from_secs(9),
        target: Some("the queue".into()),
        elsewhere: Elsewhere::Lease,
        fan_out: Arc::new(|_| Fan::default()),
        claim: None,
    };
    assert_eq!(crate::store::outbox(&store).relay(relay).await.unwrap().done, 2);
    // Another process opens it, and finds it as it is.
    let other = open(&place).await;
    assert_eq!(other.about.identity(), store.about.identity());
    assert_eq!(other.catalogue.read().await.unwrap().generation, store.catalogue.read().await.unwrap().generation);
    assert_eq!(number(&pool, "select min_compatible from evented_schema").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_whose_version_was_deleted_is_opened_by_what_its_tables_are() {
    let place = Place::new();
    let pool = place.pool().await;
    run(&pool, SCHEMA_2).await;
    run(&pool, "delete from evented_schema").await;
    let store = open(&place).await;
    record(&store, [handler("mail")]).await;
    let (identity, generation) = (store.about.identity(), store.catalogue.read().await.unwrap().generation);
    // Under a running process: the name is the one that it knows, and the generation another.
    run(&pool, "delete from evented_schema").await;
    let claims = store.queue.exchange(
        [].into(),
        Some(evented::store::Claim {
            queues: Vec::new(),
            lease: Duration::from_secs(9),
            session: evented::SessionId::from_i64(1),
            lapsed: evented::store::Lapsed::Take,
        }),
    );
    assert_ne!(claims.await.unwrap().generation, Some(generation), "a claim tells that something has happened");
    let again = store.catalogue.read().await.unwrap();
    assert_eq!((store.about.identity(), again.handlers.len()), (identity.clone(), 1));
    assert_ne!(again.generation, generation);
    assert_eq!(open(&place).await.about.identity(), identity);
    // All of it is there again for the next.
    run(&pool, "drop table evented_schema").await;
    assert_eq!(store.catalogue.read().await.unwrap().handlers.len(), 1);
    assert_eq!(store.about.identity(), identity);
}
