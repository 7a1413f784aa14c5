//! What is SQLite's own: its tables of an earlier schema, what is counted and what is forgotten, steps and their locks, and rows that
//! wait for their turn.

mod counts;
mod growth;
mod older;
mod rows;

use std::time::Duration;

use evented::{
    DeliveryId, EventId, Key, Origin, Policy, SessionId,
    sqlx::{AssertSqlSafe, SqlitePool, query, query_scalar},
    store::{
        CatalogueEntry, Claim, ClaimHandler, ClaimQueue, Claimed, Lapsed, NewDelivery, Outcome, Push, Route,
        Settlement, Store, open_outbox,
    },
};
use evented_tests::Place;

const LONG: Duration = Duration::from_mins(1);

/// The outbox of a place, which keeps deliveries as a queue does.
async fn open(place: &Place) -> Store {
    open_outbox(format!("sqlite:{}", place.path("shop.db").display())).await.unwrap()
}

async fn run(pool: &SqlitePool, sql: &str) -> u64 {
    query(AssertSqlSafe(sql)).execute(pool).await.unwrap().rows_affected()
}

async fn number(pool: &SqlitePool, sql: &str) -> i64 {
    query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await.unwrap()
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

fn delivery(handler: &str, key: &str) -> NewDelivery {
    let event_id = EventId::from_key(key);
    NewDelivery {
        id: DeliveryId::derive(event_id, handler),
        event_id,
        handler: handler.into(),
        origin: Origin::of(event_id),
        version: 1,
        emitted_unix_ms: None,
        delay: Duration::ZERO,
        policy: Policy::DEFAULT,
        unique: None,
        order: None,
        payload: key.as_bytes().into(),
    }
}

fn ordered(handler: &str, key: &str, number: usize) -> NewDelivery {
    NewDelivery { order: Some(Key::derive(handler, key)), ..delivery(handler, &format!("{key} {number}")) }
}

async fn push_of(store: &Store, deliveries: Vec<NewDelivery>) -> Push {
    Push::of(store.catalogue.read().await.unwrap().generation, deliveries)
}

async fn push(store: &Store, deliveries: Vec<NewDelivery>) {
    assert!(store.queue.push(push_of(store, deliveries).await).await.unwrap().is_stored());
}

async fn claim(store: &Store, handlers: &[&str], wanted: usize, lease: Duration) -> Vec<Claimed> {
    let asked = |name: &&str| ClaimHandler {
        name: (*name).into(),
        version: 1,
        priority: evented::Priority::Normal,
        wanted: usize::MAX,
    };
    let queue = ClaimQueue { name: "default".into(), handlers: handlers.iter().map(asked).collect(), wanted };
    let claim = Claim { queues: vec![queue], lease, session: SessionId::from_i64(1), lapsed: Lapsed::Take };
    store.queue.exchange([].into(), Some(claim)).await.unwrap().claims.deliveries
}

async fn settle(store: &Store, settlements: Vec<Settlement>) -> Vec<bool> {
    store.queue.exchange(settlements.into(), None).await.unwrap().held
}

fn dead() -> Outcome {
    Outcome::Dead { failed: 1, error: "no such address".to_owned() }
}
