//! Sessions and ended leases, beside what others do to the same rows.

use std::time::Duration;

use evented::{
    SessionId,
    store::{Claim, ClaimHandler, ClaimQueue, Claims, Lapsed, Retention, Store, open_outbox},
};

use super::{
    Shop,
    kept::{LONG, delivery, push, record, told},
};

const SHORT: Duration = Duration::from_millis(50);

async fn claim_as(store: &Store, session: SessionId, lease: Duration) -> Claims {
    let handler = ClaimHandler { name: "book".into(), version: 1, priority: evented::Priority::Normal, wanted: 10 };
    let queues = vec![ClaimQueue { name: "default".into(), handlers: vec![handler], wanted: 10 }];
    let claim = Claim { queues, lease, session, lapsed: Lapsed::Take };
    store.queue.exchange([].into(), Some(claim)).await.unwrap().claims
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_leases_are_claimed_beside_what_is_new_and_counted_once() {
    let Some(shop) = Shop::new().await else { return };
    let store = open_outbox(&shop.url).await.unwrap();
    record(&store, &["book"]).await;
    push(&store, vec![delivery("book", 1), delivery("book", 2)]).await;
    assert_eq!(claim_as(&store, SessionId::from_i64(1), SHORT).await.deliveries.len(), 2);
    push(&store, vec![delivery("book", 3)]).await;
    tokio::time::sleep(2 * SHORT).await;
    let claims = claim_as(&store, SessionId::from_i64(1), LONG).await;
    assert_eq!((claims.deliveries.len(), claims.suspects), (3, false));
    assert_eq!(told(&store, "book").await, (0, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_has_died_where_the_sessions_were_emptied() {
    let Some(shop) = Shop::new().await else { return };
    let store = open_outbox(&shop.url).await.unwrap();
    record(&store, &["book"]).await;
    push(&store, vec![delivery("book", 1), delivery("book", 2)]).await;
    let dead = SessionId::mint();
    store.queue.extend(dead, &[], SHORT).await.unwrap();
    assert_eq!(claim_as(&store, dead, SHORT).await.deliveries.len(), 2);
    tokio::time::sleep(2 * SHORT).await;
    shop.execute("truncate evented_sessions").await;
    let claims = claim_as(&store, SessionId::from_i64(1), LONG).await;
    assert_eq!((claims.deliveries.len(), claims.suspects), (2, false));
    // One that lives is known again with its next renewal.
    let leases: Vec<_> = claims.deliveries.iter().map(|claimed| claimed.lease).collect();
    assert_eq!(store.queue.extend(dead, &leases, LONG).await.unwrap(), [true, true]);
    assert_eq!(shop.ask("select count(*) from evented_sessions").await, 1);
    shop.execute("update evented_sessions set until_ms = until_ms - 48 * 3600000 - 60001").await;
    crate::store::admin(&store).sweep(Retention { age: LONG, count: 10 }).await.unwrap();
    assert_eq!(shop.ask("select count(*) from evented_sessions").await, 0);
}
