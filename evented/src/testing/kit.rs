//! What the promises are written with: short words for what a flow does with a store.

use std::{sync::Arc, time::Duration};

use crate::{
    error::StoreError,
    id::{DeliveryId, EventId, SessionId},
    origin::Origin,
    retry::Policy,
    store::{
        AdminStore, CatalogueEntry, Claim, ClaimHandler, ClaimQueue, Claimed, Claims, Exchanged, Lapsed, Lease,
        Letters, NewDelivery, OutboxStore, Outcome, Push, Record, Route, Settlement, Store, StoreTime, StoredCount,
        Swap,
    },
    terms::Priority,
    time::{self, Instant},
};

use super::OutboxSite;

/// A lease that outlives each test.
pub const LONG: Duration = Duration::from_mins(1);
/// A lease that ends within a test: nothing relies on that it is still held.
pub const SHORT: Duration = Duration::from_millis(50);
/// By how much a store's clock of whole milliseconds and ours may differ over a test.
pub const CLOCKS: Duration = Duration::from_millis(20);
/// The session of claims that are not about sessions: no store knows it, so it never died.
pub const SESSION: SessionId = SessionId::from_i64(1);
/// The session in whose name leases are renewed where it is not about sessions: no claim names it, so that nothing dies with it.
pub const KEEPER: SessionId = SessionId::from_i64(2);
/// A payload's version that every worker reads.
pub const VERSION: u32 = 1;

/// How long a promise waits for what must happen.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// What a store answers that can be reached: a promise is about the answer, and ends where there is none.
pub trait Answered<T> {
    fn answered(self) -> T;
}

impl<T> Answered<T> for Result<T, StoreError> {
    #[track_caller]
    fn answered(self) -> T {
        self.expect("the store can be reached, and what it is asked for is right")
    }
}

/// Looks again and again until `holds`; panics with `what` when it did not within the deadline.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !holds().await {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(time::within(DEADLINE, looking).await.is_some(), "did not happen within {DEADLINE:?}: {what}");
}

/// Emits the event of `key` in a transaction of the application, and commits.
pub async fn emit(site: &impl OutboxSite, key: &str) -> EventId {
    site.emit_in(key, async || true).await
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
pub async fn record(store: &Store, handlers: &[&str]) -> u64 {
    record_all(store, handlers.iter().map(|id| handler(id)).collect::<Vec<_>>()).await;
    generation(store).await
}

/// Records handlers, as a process does that begins now.
pub async fn record_all(store: &Store, handlers: impl Into<Arc<[CatalogueEntry]>>) {
    let began = store.queue.clock().await.answered().after(Duration::from_millis(1));
    let handlers = handlers.into();
    while {
        let record = Record { generation: generation(store).await, began, handlers: Arc::clone(&handlers) };
        store.catalogue.record(record).await.answered() == Swap::Moved
    } {}
}

/// Retires a handler; answers whether it was there.
pub async fn retire(store: &Store, handler: &str) -> bool {
    loop {
        if let Swap::Done(was_there) =
            store.catalogue.retire(handler.to_owned(), generation(store).await).await.answered()
        {
            return was_there;
        }
    }
}

/// Requeues all that is meant, in as many steps as it takes; answers how many it was.
pub async fn requeue(store: &Store, letters: Letters) -> u64 {
    let mut count = 0;
    loop {
        let step = admin_of(store).requeue(letters.clone(), StoreTime::MAX).await.answered();
        count += step.count;
        if !step.more {
            return count;
        }
    }
}

/// Discards all that is meant, in as many steps as it takes; answers how many it was.
pub async fn discard(store: &Store, letters: Letters) -> u64 {
    let mut count = 0;
    loop {
        let step = admin_of(store).discard(letters.clone(), StoreTime::MAX).await.answered();
        count += step.count;
        if !step.more {
            return count;
        }
    }
}

pub async fn generation(store: &Store) -> u64 {
    store.catalogue.read().await.answered().generation
}

/// The event `key` for the handler, due now.
pub fn delivery(handler: &str, key: &str) -> NewDelivery {
    let event_id = EventId::from_key(key);
    NewDelivery {
        id: DeliveryId::derive(event_id, handler),
        event_id,
        handler: handler.into(),
        origin: Origin::of(event_id),
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
pub async fn push(store: &Store, deliveries: impl Into<Arc<[NewDelivery]>>) {
    let push = Push::of(generation(store).await, deliveries);
    assert!(store.queue.push(push).await.answered().is_stored());
}

/// The same for deliveries whose push may be repeated.
pub async fn push_once(store: &Store, deliveries: impl Into<Arc<[NewDelivery]>>) {
    let push = Push::of(generation(store).await, deliveries).once();
    assert!(store.queue.push(push).await.answered().is_stored());
}

/// One handler's part of a claim.
pub fn asking(handler: &str, priority: Priority, wanted: usize) -> ClaimHandler {
    ClaimHandler { name: handler.into(), version: VERSION, priority, wanted }
}

/// One queue's part of a claim.
pub fn wanting(wanted: usize, handlers: &[&str]) -> ClaimQueue {
    let handlers = handlers.iter().map(|id| asking(id, Priority::Normal, usize::MAX));
    ClaimQueue { name: "default".into(), handlers: handlers.collect(), wanted }
}

/// A claim of the suite's own session, which takes what it finds.
pub fn claim_of(queues: Vec<ClaimQueue>, lease: Duration) -> Claim {
    Claim { queues, lease, session: SESSION, lapsed: Lapsed::Take }
}

pub async fn claims(store: &Store, queues: Vec<ClaimQueue>, lease: Duration) -> Claims {
    store.queue.exchange([].into(), Some(claim_of(queues, lease))).await.answered().claims
}

/// Settles and claims, with a lease that outlives the test.
pub async fn exchange(store: &Store, settlements: impl Into<Arc<[Settlement]>>, queues: Vec<ClaimQueue>) -> Exchanged {
    store.queue.exchange(settlements.into(), Some(claim_of(queues, LONG))).await.answered()
}

/// Claims up to 1,000 of what is due for these handlers.
pub async fn claim(store: &Store, handlers: &[&str], lease: Duration) -> Vec<Claimed> {
    claims(store, vec![wanting(1_000, handlers)], lease).await.deliveries
}

/// Claims the one delivery that is due for the handler.
pub async fn claim_one(store: &Store, handler: &str, lease: Duration) -> Claimed {
    one(claim(store, &[handler], lease).await)
}

/// Claims until something is due for these handlers.
pub async fn claim_when_due(store: &Store, handlers: &[&str], lease: Duration) -> Vec<Claimed> {
    let mut claimed = Vec::new();
    eventually(&format!("something is due for {handlers:?}"), async || {
        claimed = claim(store, handlers, lease).await;
        !claimed.is_empty()
    })
    .await;
    claimed
}

/// Claims until the one delivery of the handler is due.
pub async fn claim_one_when_due(store: &Store, handler: &str, lease: Duration) -> Claimed {
    one(claim_when_due(store, &[handler], lease).await)
}

fn one(mut claimed: Vec<Claimed>) -> Claimed {
    assert_eq!(claimed.len(), 1, "one delivery is due, not {}: {claimed:?}", claimed.len());
    claimed.remove(0)
}

/// Pushes a delivery for the handler that is due in 300 ms and claims until it comes. Whatever else of the handler is
/// due before that comes too, so this fails if anything is: it shows that a thing does not happen.
pub async fn nothing_is_due(store: &Store, handler: &str) {
    let marker = delayed(Duration::from_millis(300), delivery(handler, "the marker"));
    push(store, [marker.clone()]).await;
    let claimed = claim_one_when_due(store, handler, LONG).await;
    assert_eq!(claimed.lease.delivery, marker.id, "only the marker was to be due: {claimed:?}");
    assert!(settle(store, claimed.lease, Outcome::Released).await);
    let claimed = claim_one(store, handler, LONG).await;
    assert!(settle(store, claimed.lease, Outcome::Completed).await);
}

/// Settles one delivery; answers whether its lease was still held.
pub async fn settle(store: &Store, lease: Lease, outcome: Outcome) -> bool {
    let settled = store.queue.exchange([Settlement { lease, outcome }].into(), None).await.answered().held;
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
pub async fn lose(store: &Store, other: &Store, handler: &str) -> (Lease, Claimed) {
    let lost = claim_one(store, handler, SHORT).await;
    let taken = claim_one_when_due(other, handler, LONG).await;
    assert_eq!(taken.lease.delivery, lost.lease.delivery);
    assert_ne!(taken.lease.token, lost.lease.token);
    (lost.lease, taken)
}

/// All counters, without what grows by itself as time passes.
pub async fn counts(store: &Store) -> Vec<StoredCount> {
    let handlers = admin_of(store).stats().await.answered().handlers.into_iter();
    handlers.map(|count| StoredCount { due_for: None, ..count }).collect()
}

/// The handler's counters.
pub async fn count(store: &Store, handler: &str) -> StoredCount {
    let counts = admin_of(store).stats().await.answered();
    counts.handlers.into_iter().find(|count| count.handler == handler).expect("the handler is recorded")
}

/// What is stored for the handler: waiting and running.
pub async fn stored(store: &Store, handler: &str) -> (u64, u64) {
    let count = count(store, handler).await;
    (count.waiting, count.running)
}

/// The ids of claimed deliveries, sorted.
pub fn ids(claimed: &[Claimed]) -> Vec<DeliveryId> {
    let mut ids: Vec<_> = claimed.iter().map(|claimed| claimed.lease.delivery).collect();
    ids.sort();
    ids
}

/// The ids of new deliveries, sorted.
pub fn new_ids(deliveries: &[NewDelivery]) -> Vec<DeliveryId> {
    let mut ids: Vec<_> = deliveries.iter().map(|delivery| delivery.id).collect();
    ids.sort();
    ids
}

/// Checks that `delay` has passed since `began`, before which the delay did not begin.
pub fn has_passed(delay: Duration, began: Instant) {
    let passed = began.elapsed();
    assert!(passed + CLOCKS >= delay, "{delay:?} were to pass, and only {passed:?} have");
}

/// What can be asked of a store.
pub fn admin_of(store: &Store) -> &dyn AdminStore {
    store.admin.as_deref().expect("a store of the suite can be asked")
}

/// The outbox of a store that has one.
pub fn outbox_of(store: &Store) -> &dyn OutboxStore {
    store.outbox.as_deref().expect("an outbox site opens outboxes")
}
