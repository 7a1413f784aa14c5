//! Handlers that a person deleted from the catalogue: whoever names them is told that the catalogue has moved, records its own
//! again and goes on.

use std::sync::Arc;

use evented::{
    EventId, Key, Role,
    prelude::*,
    sqlx::PgPool,
    store::{Elsewhere, Fan, NewDelivery, OutboxRow, Push, Pushed, Relay, Store, open_outbox},
};
use evented_tests::servers::Postgres;
use serde::{Deserialize, Serialize};

use super::{LEASE, claim, delivery, handler, open};

/// Also by whoever has another search path.
const FORGET: [&str; 3] = [
    "truncate evented_handlers",
    "delete from evented_handlers where id = 'mail'",
    "set search_path = pg_catalog; delete from public.evented_handlers",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_pushes_or_claims_for_handlers_that_are_gone_reads_the_catalogue_again() {
    let Some(server) = Postgres::shared() else { return };
    // In a transaction of its own each time, too.
    for (way, forget) in ["", "?statement-cache-capacity=0&listen=off", ""].into_iter().zip(FORGET) {
        let url = server.database();
        let store = open(&format!("{url}{way}")).await;
        crate::store::record(&store, [handler("stock")]).await;
        let generation = store.catalogue.read().await.unwrap().generation;
        server.ask(&url, forget).unwrap();
        let of_key = |key: &str| NewDelivery { order: Some(Key::derive("mail", "a")), ..delivery(key) };
        for delivery in [delivery("plain"), of_key("ordered")] {
            let pushed = store.queue.push(Push::of(generation, [delivery.clone()])).await;
            assert_eq!(pushed.unwrap(), Pushed::CatalogueMoved, "{delivery:?}");
            let pushed = store.queue.push(Push::of(generation, [delivery.clone()]).once()).await;
            assert_eq!(pushed.unwrap(), Pushed::CatalogueMoved, "{delivery:?}");
        }
        let exchanged = store.queue.exchange([].into(), Some(claim(1))).await.unwrap();
        assert_ne!(exchanged.generation, Some(generation));
        let left = server.ask(
            &url,
            "select (select count(*) from evented_deliveries), (select count(*) from evented_once),
            (select count(*) from evented_order_keys)",
        );
        assert_eq!(left.unwrap(), "0|0|0", "nothing is stored half");

        crate::store::record(&store, [handler("mail")]).await;
        let generation = store.catalogue.read().await.unwrap().generation;
        for delivery in [delivery("plain"), of_key("ordered")] {
            assert_eq!(
                store.queue.push(Push::of(generation, [delivery]).once()).await.unwrap(),
                Pushed::Stored(Vec::new())
            );
        }
        let exchanged = store.queue.exchange([].into(), Some(claim(5))).await.unwrap();
        assert_eq!((exchanged.claims.deliveries.len(), exchanged.generation), (2, Some(generation)));
    }
}

#[event(transactional)]
#[derive(Serialize, Deserialize)]
struct DeedLost {
    number: u32,
}

fn all_here(row: &OutboxRow) -> Fan {
    let mut here = delivery("a deed");
    here.event_id = row.event_id;
    Fan { here: vec![here], ..Fan::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_relays_to_handlers_that_are_gone_reads_the_catalogue_again() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let pool = PgPool::connect(&url).await.unwrap();
    let run = evented::run().install(false).module("no_module_of_this_name").role(Role::Emit);
    let app = run.queue(&url).outbox(pool.clone()).await.unwrap();
    let store = open_outbox(&url).await.unwrap();
    crate::store::record(&store, [handler("mail")]).await;
    let mut tx = evented::begin(&pool).await.unwrap();
    app.emit_in(&mut tx, DeedLost { number: 1 }).id(EventId::from_key("a deed")).await.unwrap();
    tx.commit().await.unwrap();
    let generation = store.catalogue.read().await.unwrap().generation;
    let turn = async |store: &Store, generation| {
        let relay = Relay {
            generation,
            rows: 10,
            bytes: 1 << 20,
            lease: LEASE,
            target: None,
            elsewhere: Elsewhere::Leave(LEASE),
            fan_out: Arc::new(all_here),
            claim: None,
        };
        crate::store::outbox(store).relay(relay).await.unwrap()
    };
    server.ask(&url, FORGET[0]).unwrap();
    let relayed = turn(&store, generation).await;
    assert!(relayed.catalogue_moved && relayed.done == 0, "{relayed:?}");
    crate::store::record(&store, [handler("mail")]).await;
    let generation = store.catalogue.read().await.unwrap().generation;
    assert_eq!(turn(&store, generation).await.done, 1);
}
