//! Redis beyond the contract: a cluster's node, large backlogs, a server that dies, hangs, forgets or is full.
//!
//! Each test has a server of its own where it does something to it. Where `redis-server` is not installed they are skipped.

mod app;
mod keys;
mod marks;
mod older;
mod second;
mod server;
mod suspects;
mod trouble;
mod whole;

use std::time::Duration;

use evented::{
    DeliveryId, EventId, Key, Policy, Priority, Route, SessionId, StoreError,
    store::{
        CatalogueEntry, Claim, ClaimHandler, ClaimQueue, Claimed, Claims, Lapsed, Lease, NewDelivery, Outcome, Push,
        Pushed, Settlement, Store, StoredCount, UniqueKey, open_queue,
    },
};
use evented_tests::servers::Redis;

/// A lease that outlives each test.
const LONG: Duration = Duration::from_mins(1);

/// The session of claims that are not about sessions: no store knows it, so it never died.
const SESSION: SessionId = SessionId::from_i64(1);
/// In whose name leases are renewed there.
const KEEPER: SessionId = SessionId::from_i64(2);

/// An URL of its own on the server that all tests share.
fn shared() -> Option<String> {
    let redis = Redis::shared()?;
    Some(format!("{}/0?prefix={}", redis.url(), redis.prefix()))
}

async fn open(url: &str) -> Store {
    open_queue(url).await.unwrap()
}

fn handler(id: &str) -> CatalogueEntry {
    CatalogueEntry {
        handler: id.into(),
        aliases: Vec::new(),
        event: "OrderPlaced".to_owned(),
        event_aliases: Vec::new(),
        route: Route::Background,
        queue: "default".to_owned(),
        policy: Policy::DEFAULT,
        unique: None,
        ordered_by: None,
    }
}

async fn record(store: &Store, handlers: &[&str]) {
    crate::store::record(store, handlers.iter().map(|id| handler(id)).collect::<Vec<_>>()).await;
}

fn delivery(handler: &str, key: &str) -> NewDelivery {
    let event_id = EventId::from_key(key);
    NewDelivery {
        id: DeliveryId::derive(event_id, handler),
        event_id,
        handler: handler.into(),
        origin: evented::Origin::of(event_id),
        version: 1,
        emitted_unix_ms: None,
        delay: Duration::ZERO,
        policy: Policy::DEFAULT,
        unique: None,
        order: None,
        payload: key.as_bytes().into(),
    }
}

fn ordered(handler: &str, key: &str, order: &str) -> NewDelivery {
    NewDelivery { order: Some(Key::derive(handler, order)), ..delivery(handler, key) }
}

fn unique(handler: &str, key: &str, value: &str, within: Duration) -> NewDelivery {
    let unique = Some(UniqueKey { key: Key::derive(handler, value), within });
    NewDelivery { unique, ..delivery(handler, key) }
}

/// Pushes once, planned from the catalogue as it is.
async fn try_push(store: &Store, deliveries: Vec<NewDelivery>) -> Result<Pushed, StoreError> {
    let generation = store.catalogue.read().await?.generation;
    store.queue.push(Push::of(generation, deliveries)).await
}

async fn push(store: &Store, deliveries: Vec<NewDelivery>) {
    assert!(try_push(store, deliveries).await.unwrap().is_stored());
}

fn claim_of(wanted: usize, handlers: &[(&str, u32, Priority)]) -> Claim {
    let handlers = handlers.iter().map(|(name, version, priority)| ClaimHandler {
        name: (*name).into(),
        version: *version,
        priority: *priority,
        wanted,
    });
    let queue = ClaimQueue { name: "default".into(), handlers: handlers.collect(), wanted };
    Claim { queues: vec![queue], lease: LONG, session: SESSION, lapsed: Lapsed::Take }
}

async fn exchange(store: &Store, settlements: Vec<Settlement>, wanted: usize, handler: &str) -> (Vec<bool>, Claims) {
    let claim = claim_of(wanted, &[(handler, 1, Priority::Normal)]);
    let exchanged = store.queue.exchange(settlements.into(), Some(claim)).await.unwrap();
    (exchanged.held, exchanged.claims)
}

async fn claim(store: &Store, wanted: usize, handler: &str) -> Vec<Claimed> {
    exchange(store, Vec::new(), wanted, handler).await.1.deliveries
}

fn completed(claimed: &[Claimed]) -> Vec<Settlement> {
    claimed.iter().map(|claimed| Settlement { lease: claimed.lease, outcome: Outcome::Completed }).collect()
}

async fn settle(store: &Store, lease: Lease, outcome: Outcome) -> bool {
    store.queue.exchange([Settlement { lease, outcome }].into(), None).await.unwrap().held[0]
}

async fn count(store: &Store, handler: &str) -> StoredCount {
    let stats = crate::store::admin(store).stats().await.unwrap();
    stats.handlers.into_iter().find(|count| count.handler == handler).expect("the handler is recorded")
}

/// The payloads of what was claimed, as text.
fn payloads(claimed: &[Claimed]) -> Vec<String> {
    claimed.iter().map(|claimed| String::from_utf8(claimed.payload.to_vec()).unwrap()).collect()
}
