//! Tables of earlier releases, and how they are brought up.

use evented::store::open_outbox;

use super::{
    Shop,
    kept::{LONG, claim, record, stays, told, turn},
};

/// From the tables of this release to those of the one before.
const SECOND: [&str; 3] = [
    "drop table evented_sessions",
    "alter table evented_deliveries drop index evented_deliveries_died, drop column holder, drop column suspect,
        drop column died_with, drop column charges, drop column pending",
    "update evented_schema set version = 2, min_compatible = 2",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_earlier_releases_are_migrated_with_what_is_in_them() {
    let Some(shop) = Shop::new().await else { return };
    drop(open_outbox(&shop.url).await.unwrap());
    for sql in SECOND {
        shop.execute(sql).await;
    }
    for sql in [
        "drop table evented_outbox_keys",
        "alter table evented_outbox drop index evented_outbox_next, drop column target, drop column handlers, drop column error,
            add index evented_outbox_due (due_at, seq)",
        "alter table evented_deliveries drop column again",
        "alter table evented_counts drop column kept, drop column running",
        "alter table evented_handlers drop column kept, drop column running, drop column retired_at",
        "alter table evented_schema drop column feeds",
        "update evented_schema set version = 1, min_compatible = 1, catalogue = 5",
        "insert into evented_handlers (id, event, route, queue, attempts_max, backoff_first_ms, timeout_ms, aliases,
            event_aliases, done, retired) values ('book', 'Sailed', 'outbox', 'default', 3, 1, 1000, '[]', '[]', 7, false),
            ('gone', 'Sailed', 'outbox', 'default', 3, 1, 1000, '[]', '[]', 0, true)",
        "insert into evented_counts (handler, done, retried, dead) select num, 2, 1, 0 from evented_handlers where id = 'book'",
        "insert into evented_deliveries (id, event_id, handler, due_at, lease, attempts_max, backoff_first_ms, timeout_ms,
            version, emitted_at, payload) select unhex(lpad(seq, 32, '0')), unhex(lpad(seq, 32, '0')), num,
            if(seq = 1, 9000000000000, 1), if(seq = 1, 77, null), 3, 1, 1000, 1, 1, 'x'
            from seq_1_to_3 join evented_handlers where id = 'book'",
        "insert into evented_outbox (event_id, event, due_at, lease, version, emitted_at, payload)
            values (unhex(lpad(9, 32, '0')), 'Sailed', 9000000000000, 77, 1, 1, 'x')",
    ] {
        shop.execute(sql).await;
    }
    let stores = [open_outbox(&shop.url).await.unwrap(), open_outbox(&shop.url).await.unwrap()];
    let store = &stores[0];
    let read = store.catalogue.read().await.unwrap();
    assert_ne!(read.generation, 5, "it is a random one now");
    assert_eq!((read.handlers.len(), read.retired), (1, vec!["gone".to_owned()]));
    assert_eq!(told(store, "book").await, (2, 1));
    let stats = crate::store::admin(store).stats().await.unwrap();
    let book = stats.handlers.iter().find(|count| count.handler == "book").unwrap();
    assert_eq!((book.done, book.retried, book.dead), (9, 1, 0));
    // What the release before had retired comes back with whoever records it.
    record(store, &["book", "gone"]).await;
    assert_eq!(store.catalogue.read().await.unwrap().handlers.len(), 2);
    assert_eq!(turn(store, stays).await.done, 1, "which a relay of that release had in hand");
    assert_eq!(told(store, "book").await, (3, 1));
    let version = "select version * 100 + min_compatible from evented_schema";
    assert_eq!(shop.ask(version).await, 302);
    for sql in SECOND {
        shop.execute(sql).await;
    }
    let store = open_outbox(&shop.url).await.unwrap();
    assert_eq!(shop.ask(version).await, 302);
    assert_eq!(told(&store, "book").await, (3, 1));
    assert_eq!(claim(&store, &["book"], 10, LONG).await.len(), 3);
}
