//! What the promises are written with: a site, and short words for what a flow does with a store.

use std::{sync::Arc, time::Duration};

use evented::{
    EventId, Policy, Priority, Route,
    store::{
        CatalogueEntry, Claim, ClaimHandler, ClaimQueue, Claimed, Claims, Lease, NewDelivery, OutboxStore, Outcome,
        Push, Pushed, Settlement, Store, StoredCount, TxCall,
    },
};
use evented_tests::eventually;
use tokio::{sync::Notify, time::Instant};

/// A lease that outlives each test.
pub const LONG: Duration = Duration::from_mins(1);
/// A lease that ends within a test: nothing relies on that it is still held.
pub const SHORT: Duration = Duration::from_millis(50);
/// By how much a store's clock of whole milliseconds and ours may differ over a test.
pub const CLOCKS: Duration = Duration::from_millis(20);
/// A payload's version that every worker reads.
pub const VERSION: u32 = 1;

/// A place of a test's own where one store is kept.
pub trait Opens: Sized {
    /// A new place, with an empty store; `None` where the server that it needs is not installed.
    async fn new() -> Option<Self>;

    /// Opens the store, as one more process does.
    async fn open(&self) -> Arc<dyn Store>;
}

/// A place whose store is also an outbox, in an application's database with a table `ledger (entry)`.
pub trait OpensOutbox: Opens {
    async fn open_outbox(&self) -> Arc<dyn OutboxStore>;

    /// Emits a transactional event in a transaction of the application, which commits if `before_its_end` says so.
    /// The event's id is that of `key`.
    async fn emit_in(&self, key: &str, before_its_end: impl AsyncFnOnce() -> bool) -> EventId;

    /// A handler's part of [`OutboxStore::transact`]: writes `entry` into the ledger and ends in this way.
    fn write(&self, entry: i64, end: End) -> TxCall<'static>;

    /// What the ledger has, in order.
    async fn ledger(&self) -> Vec<i64>;

    /// Emits an event and commits.
    async fn emit(&self, key: &str) -> EventId {
        self.emit_in(key, async || true).await
    }
}

/// How a transactional handler ends.
pub enum End {
    Well,
    Failing,
    /// Ends the transaction itself, then returns well.
    RollingBack,
    /// Ends the transaction itself, as a constraint with `on conflict rollback` does, then fails.
    RollingBackAndFailing,
    /// Ends the transaction itself, then returns well.
    Committing,
    /// Says so when it has written, then waits for ever.
    Hanging(Arc<Notify>),
    /// Ends the transaction itself, says so, then waits for ever.
    RollingBackAndHanging(Arc<Notify>),
}

/// A handler as a process records it.
pub fn handler(id: &str) -> CatalogueEntry {
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

/// Records these handlers; answers the generation.
pub async fn record(store: &dyn Store, handlers: &[&str]) -> u64 {
    store.record(handlers.iter().map(|id| handler(id)).collect()).await.unwrap();
    generation(store).await
}

pub async fn generation(store: &dyn Store) -> u64 {
    store.catalogue().await.unwrap().generation
}

/// The event `key` for the handler, due now.
pub fn delivery(handler: &str, key: &str) -> NewDelivery {
    let event_id = EventId::from_key(key);
    NewDelivery {
        id: evented::DeliveryId::derive(event_id, handler),
        event_id,
        handler: handler.into(),
        correlation: event_id,
        version: VERSION,
        emitted_unix_ms: None,
        delay: Duration::ZERO,
        policy: Policy::DEFAULT,
        unique: None,
        order: None,
        payload: key.as_bytes().into(),
    }
}

/// The same, due later.
pub fn delayed(delay: Duration, delivery: NewDelivery) -> NewDelivery {
    NewDelivery { delay, ..delivery }
}

/// The events `0..count` for the handler.
pub fn deliveries(handler: &str, count: usize) -> Vec<NewDelivery> {
    (0..count).map(|number| delivery(handler, &format!("event {number} for {handler}"))).collect()
}

/// Stores deliveries, planned from the catalogue as it is.
pub async fn push(store: &dyn Store, deliveries: impl Into<Arc<[NewDelivery]>>) {
    let push = Push { generation: generation(store).await, once: false, deliveries: deliveries.into() };
    assert_eq!(store.push(push).await.unwrap(), Pushed::Stored);
}

/// The same for deliveries whose push may be repeated.
pub async fn push_once(store: &dyn Store, deliveries: impl Into<Arc<[NewDelivery]>>) {
    let push = Push { generation: generation(store).await, once: true, deliveries: deliveries.into() };
    assert_eq!(store.push(push).await.unwrap(), Pushed::Stored);
}

/// One queue's part of a claim.
pub fn wanting(wanted: usize, handlers: &[&str]) -> ClaimQueue {
    let handlers = handlers.iter().map(|id| ClaimHandler {
        name: (*id).into(),
        version: VERSION,
        priority: Priority::Normal,
        wanted: usize::MAX,
    });
    ClaimQueue { name: "default".into(), handlers: handlers.collect(), wanted }
}

pub async fn claims(store: &dyn Store, queues: Vec<ClaimQueue>, lease: Duration) -> Claims {
    store.exchange([].into(), Some(Claim { queues, lease })).await.unwrap().claims
}

/// Claims up to 1,000 of what is due for these handlers.
pub async fn claim(store: &dyn Store, handlers: &[&str], lease: Duration) -> Vec<Claimed> {
    claims(store, vec![wanting(1_000, handlers)], lease).await.deliveries
}

/// Claims the one delivery that is due for the handler.
pub async fn claim_one(store: &dyn Store, handler: &str, lease: Duration) -> Claimed {
    one(claim(store, &[handler], lease).await)
}

/// Claims until something is due for these handlers.
pub async fn claim_when_due(store: &dyn Store, handlers: &[&str], lease: Duration) -> Vec<Claimed> {
    let mut claimed = Vec::new();
    eventually(&format!("something is due for {handlers:?}"), async || {
        claimed = claim(store, handlers, lease).await;
        !claimed.is_empty()
    })
    .await;
    claimed
}

/// Claims until the one delivery of the handler is due.
pub async fn claim_one_when_due(store: &dyn Store, handler: &str, lease: Duration) -> Claimed {
    one(claim_when_due(store, &[handler], lease).await)
}

fn one(mut claimed: Vec<Claimed>) -> Claimed {
    assert_eq!(claimed.len(), 1, "one delivery is due, not {}: {claimed:?}", claimed.len());
    claimed.remove(0)
}

/// Pushes a delivery for the handler that is due in 300 ms and claims until it comes. Whatever else of the handler is
/// due before that comes too, so this fails if anything is: it shows that a thing does not happen.
pub async fn nothing_is_due(store: &dyn Store, handler: &str) {
    let marker = delayed(Duration::from_millis(300), delivery(handler, "the marker"));
    push(store, [marker.clone()]).await;
    let claimed = claim_one_when_due(store, handler, LONG).await;
    assert_eq!(claimed.lease.delivery, marker.id, "only the marker was to be due: {claimed:?}");
    assert!(settle(store, claimed.lease, Outcome::Released).await);
    let claimed = claim_one(store, handler, LONG).await;
    assert!(settle(store, claimed.lease, Outcome::Completed).await);
}

/// Settles one delivery; answers whether its lease was still held.
pub async fn settle(store: &dyn Store, lease: Lease, outcome: Outcome) -> bool {
    let settled = store.exchange([Settlement { lease, outcome }].into(), None).await.unwrap().held;
    assert_eq!(settled.len(), 1);
    settled[0]
}

/// A retry that is due at once.
pub fn retry() -> Outcome {
    Outcome::Retry { delay: Duration::ZERO, error: "the mail server is away".to_owned() }
}

/// The end as a dead letter, after `failed` attempts.
pub fn dead(failed: u32) -> Outcome {
    Outcome::Dead { failed, error: "no such address".to_owned() }
}

/// Makes a lease that another claim has replaced, of the one delivery that is due for the handler.
pub async fn lose(store: &dyn Store, other: &dyn Store, handler: &str) -> (Lease, Claimed) {
    let lost = claim_one(store, handler, SHORT).await;
    let taken = claim_one_when_due(other, handler, LONG).await;
    assert_eq!(taken.lease.delivery, lost.lease.delivery);
    assert_ne!(taken.lease.token, lost.lease.token);
    (lost.lease, taken)
}

/// All counters, without what grows by itself as time passes.
pub async fn counts(store: &dyn Store) -> Vec<StoredCount> {
    let handlers = store.stats().await.unwrap().handlers.into_iter();
    handlers.map(|count| StoredCount { due_for: None, ..count }).collect()
}

/// The handler's counters.
pub async fn count(store: &dyn Store, handler: &str) -> StoredCount {
    let counts = store.stats().await.unwrap();
    counts.handlers.into_iter().find(|count| count.handler == handler).expect("the handler is recorded")
}

/// What is stored for the handler: waiting and running.
pub async fn stored(store: &dyn Store, handler: &str) -> (u64, u64) {
    let count = count(store, handler).await;
    (count.waiting, count.running)
}

/// The ids of claimed deliveries, sorted.
pub fn ids(claimed: &[Claimed]) -> Vec<evented::DeliveryId> {
    let mut ids: Vec<_> = claimed.iter().map(|claimed| claimed.lease.delivery).collect();
    ids.sort();
    ids
}

/// The ids of new deliveries, sorted.
pub fn new_ids(deliveries: &[NewDelivery]) -> Vec<evented::DeliveryId> {
    let mut ids: Vec<_> = deliveries.iter().map(|delivery| delivery.id).collect();
    ids.sort();
    ids
}

/// Checks that `delay` has passed since `began`, before which the delay did not begin.
pub fn has_passed(delay: Duration, began: Instant) {
    let passed = began.elapsed();
    assert!(passed + CLOCKS >= delay, "{delay:?} were to pass, and only {passed:?} have");
}
