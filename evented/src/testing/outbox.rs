//! The promises of the outbox: `relay` and `finish`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use crate::{
    id::{DeliveryId, EventId},
    store::{ClaimQueue, Elsewhere, Fan, NewDelivery, OutboxRow, Outcome, PutBack, Relay, Relayed, Store},
    time,
};

use super::{
    OutboxSite,
    kit::{
        Answered, DEADLINE, LONG, SHORT, admin_of, claim, claim_of, claim_one, count, delivery, emit, eventually,
        generation, has_passed, ids, new_ids, outbox_of, push, record, settle, stored, wanting,
    },
};

/// The identity of the queue store that rows go to, and of another.
pub(super) const QUEUE: &str = "the queue";
pub(super) const OTHER_QUEUE: &str = "another queue";

/// Where a row's deliveries go.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Goes {
    Here,
    Elsewhere,
    Both,
    Nowhere,
}

/// What a row is for the handler.
pub(super) fn of_row(handler: &str, row: &OutboxRow) -> NewDelivery {
    NewDelivery {
        id: DeliveryId::derive(row.event_id, handler),
        event_id: row.event_id,
        origin: row.origin.clone(),
        emitted_unix_ms: Some(row.emitted_unix_ms),
        payload: row.payload.clone(),
        ..delivery(handler, "replaced")
    }
}

pub(super) fn relay_of(generation: u64, rows: usize, lease: Duration, goes: Goes) -> Relay {
    // Of a row that was taken before, what stays is stored already.
    let fan_out = move |row: &OutboxRow| Fan {
        later: None,
        here: if matches!(goes, Goes::Here | Goes::Both) && row.taken.is_none() {
            vec![of_row("book", row)]
        } else {
            Vec::new()
        },
        elsewhere: if matches!(goes, Goes::Elsewhere | Goes::Both) { vec![of_row("mail", row)] } else { Vec::new() },
    };
    with_fan(generation, rows, lease, fan_out)
}

/// A turn of a relay that leases what goes to the queue store `QUEUE`.
pub(super) fn with_fan(
    generation: u64,
    rows: usize,
    lease: Duration,
    fan_out: impl Fn(&OutboxRow) -> Fan + Send + Sync + 'static,
) -> Relay {
    Relay {
        generation,
        rows,
        bytes: usize::MAX,
        lease,
        target: Some(QUEUE.into()),
        elsewhere: Elsewhere::Lease,
        fan_out: Arc::new(fan_out),
        claim: None,
    }
}

pub(super) async fn relay(store: &Store, lease: Duration, goes: Goes) -> Relayed {
    let generation = generation(store).await;
    let relayed = outbox_of(store).relay(relay_of(generation, 1_000, lease, goes)).await.answered();
    assert!(!relayed.catalogue_moved);
    relayed
}

/// Relays until rows come.
pub(super) async fn relay_when_due(store: &Store, lease: Duration) -> Vec<OutboxRow> {
    let mut rows = Vec::new();
    eventually("a row can be taken", async || {
        rows = relay(store, lease, Goes::Both).await.claimed;
        !rows.is_empty()
    })
    .await;
    rows
}

/// Finishes rows; answers for each whether it was held.
pub(super) async fn finish(store: &Store, rows: &[OutboxRow]) -> Vec<bool> {
    outbox_of(store).finish(rows.to_vec()).await.answered()
}

/// Two processes with the outbox open, and the handlers `book` and `mail`.
pub(super) async fn two(site: &impl OutboxSite) -> [Store; 2] {
    let stores = [site.open_outbox().await, site.open_outbox().await];
    record(&stores[0], &["book", "mail"]).await;
    stores
}

pub(super) async fn emit_many(site: &impl OutboxSite, count: usize) -> Vec<EventId> {
    let mut events = Vec::new();
    for number in 0..count {
        events.push(emit(site, &format!("payment {number}")).await);
    }
    events
}

pub(super) fn events(rows: &[OutboxRow]) -> Vec<EventId> {
    rows.iter().map(|row| row.event_id).collect()
}

pub async fn a_row_whose_deliveries_stay_is_replaced_in_one_turn(site: &impl OutboxSite) {
    let [store, other] = two(site).await;
    let emitted = emit_many(site, 3).await;
    assert_eq!(outbox_of(&other).count().await.answered(), 3);
    let relayed = relay(&store, LONG, Goes::Here).await;
    assert_eq!((relayed.done, relayed.claimed.len()), (3, 0));
    assert_eq!(outbox_of(&other).count().await.answered(), 0);
    let claimed = claim(&other, &["book", "mail"], LONG).await;
    let expected: Vec<_> = emitted.iter().map(|event| DeliveryId::derive(*event, "book")).collect();
    assert_eq!(claimed.iter().map(|claimed| claimed.lease.delivery).collect::<Vec<_>>(), expected);
    assert!(
        claimed.iter().all(|claimed| claimed.origin.correlation == claimed.event_id && claimed.emitted_unix_ms > 0)
    );
    let again = relay(&store, LONG, Goes::Here).await;
    assert_eq!((again.done, again.claimed.len(), again.next_due), (0, 0, None));
}

pub async fn a_row_that_nobody_gets_is_done(site: &impl OutboxSite) {
    let [store, _] = two(site).await;
    emit_many(site, 2).await;
    let relayed = relay(&store, LONG, Goes::Nowhere).await;
    assert_eq!((relayed.done, relayed.claimed.len()), (2, 0));
    assert_eq!(outbox_of(&store).count().await.answered(), 0);
    assert_eq!((stored(&store, "book").await, stored(&store, "mail").await), ((0, 0), (0, 0)));
}

pub async fn a_row_with_background_deliveries_is_leased_until_it_is_finished(site: &impl OutboxSite) {
    let [store, other] = two(site).await;
    let emitted = emit_many(site, 2).await;
    let relayed = relay(&store, LONG, Goes::Both).await;
    assert_eq!((relayed.done, events(&relayed.claimed)), (0, emitted));
    assert!(relayed.claimed.iter().all(|row| row.token.is_some() && row.origin.correlation == row.event_id));
    // Until it is finished the row is there, and this relay's alone.
    assert_eq!(outbox_of(&other).count().await.answered(), 2);
    let meanwhile = relay(&other, LONG, Goes::Both).await;
    assert_eq!((meanwhile.done, meanwhile.claimed.len()), (0, 0));
    let next_due = meanwhile.next_due.expect("rows are stored");
    assert!(next_due > LONG / 2 && next_due <= LONG, "the end of the lease, not {next_due:?}");

    assert_eq!(finish(&store, &relayed.claimed).await, [true, true]);
    assert_eq!(outbox_of(&other).count().await.answered(), 0);
    assert_eq!(stored(&store, "mail").await, (0, 0), "what goes elsewhere is not stored here");
}

pub async fn what_stays_of_a_row_is_stored_with_its_lease(site: &impl OutboxSite) {
    let [store, other] = two(site).await;
    emit_many(site, 2).await;
    let relayed = relay(&store, SHORT, Goes::Both).await;
    let here: Vec<_> = relayed.claimed.iter().map(|row| of_row("book", row)).collect();
    let claimed = claim(&other, &["book", "mail"], LONG).await;
    assert_eq!(ids(&claimed), new_ids(&here), "before anything is pushed elsewhere");
    assert!(claimed.iter().all(|claimed| relayed.claimed.iter().any(|row| row.payload == claimed.payload)));
    for claimed in claimed {
        assert!(settle(&other, claimed.lease, Outcome::Completed).await);
    }
    // The row is taken again, and what stays of it is not stored again.
    let again = relay_when_due(&other, LONG).await;
    assert_eq!(again.len(), 2);
    assert!(again.iter().all(|row| row.taken.as_ref().is_some_and(|taken| taken.target.as_str() == QUEUE)));
    assert_eq!(finish(&other, &again).await, [true, true]);
    assert_eq!((stored(&store, "book").await, count(&store, "book").await.done), ((0, 0), 2));
}

pub async fn a_row_that_is_left_is_taken_by_a_relay_that_leases(site: &impl OutboxSite) {
    let [store, other] = two(site).await;
    let emitted = emit_many(site, 2).await;
    let generation = generation(&store).await;
    let leave = |delay| Relay { elsewhere: Elsewhere::Leave(delay), ..relay_of(generation, 100, LONG, Goes::Both) };
    let relayed = outbox_of(&store).relay(leave(Duration::from_millis(200))).await.answered();
    assert_eq!((relayed.done, relayed.put_off, relayed.claimed.len()), (0, 2, 0));
    assert_eq!(stored(&store, "book").await, (2, 0), "what stays is stored");
    // Who leaves such rows does not look at them again.
    let began = time::now();
    let relayed = outbox_of(&store).relay(leave(LONG)).await.answered();
    assert_eq!((relayed.done, relayed.put_off, relayed.claimed.len()), (0, 0, 0));
    assert_eq!(relayed.next_due, None, "nothing is new");
    let taken = relay_when_due(&other, LONG).await;
    assert_eq!(events(&taken), emitted);
    assert!(began.elapsed() < LONG / 2);
    assert_eq!(finish(&other, &taken).await, [true, true]);
    assert_eq!(stored(&store, "book").await, (2, 0));
}

pub async fn a_turn_takes_no_more_bytes_than_asked(site: &impl OutboxSite) {
    let [store, _] = two(site).await;
    let emitted = emit_many(site, 5).await;
    let generation = generation(&store).await;
    let bytes = |bytes| Relay { bytes, ..relay_of(generation, 100, LONG, Goes::Elsewhere) };
    let first = outbox_of(&store).relay(bytes(1)).await.answered().claimed;
    assert_eq!(events(&first), emitted[..1], "one row at least");
    let length = first[0].payload.len();
    let next = outbox_of(&store).relay(bytes(2 * length + length / 2)).await.answered().claimed;
    assert_eq!(events(&next), emitted[1..3]);
    let rest = outbox_of(&store).relay(bytes(usize::MAX)).await.answered().claimed;
    assert_eq!(events(&rest), emitted[3..]);
}

pub async fn a_row_that_is_put_back_is_due_after_its_delay(site: &impl OutboxSite) {
    let [store, other] = two(site).await;
    let emitted = emit_many(site, 2).await;
    let rows = relay(&store, LONG, Goes::Elsewhere).await.claimed;
    let (delay, began) = (Duration::from_millis(300), time::now());
    let back = |row: &OutboxRow, delay, error: Option<&str>| PutBack {
        row: row.clone(),
        delay,
        error: error.map(str::to_owned),
    };
    outbox_of(&store)
        .put_back(vec![back(&rows[0], delay, Some("refused")), back(&rows[1], LONG, None)])
        .await
        .answered();
    outbox_of(&store).put_back(Vec::new()).await.answered();
    let again = relay_when_due(&other, LONG).await;
    has_passed(delay, began);
    assert_eq!(events(&again), emitted[..1]);
    // Who has lost the lease puts nothing back and finishes nothing.
    outbox_of(&store).put_back(vec![back(&rows[0], Duration::ZERO, None)]).await.answered();
    assert_eq!(finish(&store, &rows).await, [false, false]);
    assert!(relay(&store, LONG, Goes::Elsewhere).await.claimed.is_empty());
    assert_eq!(finish(&other, &again).await, [true]);
    assert_eq!(outbox_of(&store).count().await.answered(), 1);
}

pub async fn a_leased_row_is_taken_again_only_when_its_lease_ends(site: &impl OutboxSite) {
    let [store, other] = two(site).await;
    let emitted = emit_many(site, 1).await;
    let lease = Duration::from_millis(500);
    let began = time::now();
    let first = relay(&store, lease, Goes::Elsewhere).await.claimed;
    assert_eq!(events(&first), emitted);
    let second = relay_when_due(&other, LONG).await;
    has_passed(lease, began);
    assert_eq!(events(&second), emitted);
    assert_ne!(second[0].token, first[0].token);
    assert_eq!((&second[0].payload, second[0].emitted_unix_ms), (&first[0].payload, first[0].emitted_unix_ms));
}

pub async fn a_row_whose_lease_was_lost_is_skipped_by_finish(site: &impl OutboxSite) {
    let [store, other] = two(site).await;
    let lost_event = emit(site, "payment that is lost").await;
    let lost = relay(&store, SHORT, Goes::Both).await.claimed;
    let taken = relay_when_due(&other, LONG).await;
    assert_eq!((events(&lost), events(&taken)), (vec![lost_event], vec![lost_event]));
    let kept_event = emit(site, "payment that is kept").await;
    let kept = relay(&store, LONG, Goes::Both).await.claimed;
    assert_eq!(events(&kept), [kept_event]);

    assert_eq!(finish(&store, &[lost[0].clone(), kept[0].clone()]).await, [false, true]);
    assert_eq!(outbox_of(&store).count().await.answered(), 1, "the kept row is gone, the lost one is another relay's");
    assert_eq!(finish(&other, &taken).await, [true]);
    assert_eq!(outbox_of(&store).count().await.answered(), 0);
}

pub async fn a_row_that_is_finished_twice_is_finished_once(site: &impl OutboxSite) {
    let [store, _] = two(site).await;
    emit(site, "payment 17").await;
    let rows = relay(&store, LONG, Goes::Both).await.claimed;
    finish(&store, &rows).await;
    let claimed = claim_one(&store, "book", LONG).await;
    assert!(settle(&store, claimed.lease, Outcome::Completed).await);
    finish(&store, &rows).await;
    assert_eq!(stored(&store, "book").await, (0, 0));
    assert_eq!(count(&store, "book").await.done, 1);
}

pub async fn a_row_is_taken_by_one_relay_alone(site: &impl OutboxSite) {
    const COUNT: usize = 60;
    let stores = two(site).await;
    let mut emitted = emit_many(site, COUNT).await;
    let generation = generation(&stores[0]).await;
    let found = Arc::new(AtomicUsize::new(0));
    let mut relaying = JoinSet::new();
    for number in 0..6 {
        let (store, found) = (stores[number % 2].clone(), found.clone());
        relaying.spawn(async move {
            let mut mine = Vec::new();
            while found.load(Ordering::SeqCst) < COUNT {
                let relayed = outbox_of(&store).relay(relay_of(generation, 7, LONG, Goes::Elsewhere)).await.answered();
                found.fetch_add(relayed.claimed.len(), Ordering::SeqCst);
                mine.extend(events(&relayed.claimed));
            }
            mine
        });
    }
    let mut taken = time::within(DEADLINE, relaying.join_all()).await.expect("all is taken in the end").concat();
    taken.sort();
    emitted.sort();
    assert_eq!(taken, emitted, "each row once");
}

pub async fn a_turn_takes_no_more_rows_than_asked(site: &impl OutboxSite) {
    let [store, _] = two(site).await;
    let emitted = emit_many(site, 5).await;
    let generation = generation(&store).await;
    let relayed = outbox_of(&store).relay(relay_of(generation, 2, LONG, Goes::Elsewhere)).await.answered();
    assert_eq!(events(&relayed.claimed), emitted[..2]);
    let relayed = outbox_of(&store).relay(relay_of(generation, 2, LONG, Goes::Here)).await.answered();
    assert_eq!(relayed.done, 2);
    assert_eq!(outbox_of(&store).count().await.answered(), 3);
}

/// A turn to deliveries that stay, with a claim of these.
async fn relay_and_claim(store: &Store, queue: ClaimQueue) -> Relayed {
    let generation = generation(store).await;
    let claim = Some(claim_of(vec![queue], LONG));
    outbox_of(store).relay(Relay { claim, ..relay_of(generation, 1_000, LONG, Goes::Here) }).await.answered()
}

pub async fn what_a_turn_stores_is_claimed_with_it(site: &impl OutboxSite) {
    let [store, other] = two(site).await;
    let emitted = emit_many(site, 3).await;
    let relayed = relay_and_claim(&store, wanting(2, &["book"])).await;
    assert_eq!((relayed.done, relayed.left), (3, 1), "one is left for others");
    let claims = relayed.claims;
    assert_eq!(claims.deliveries.iter().map(|claimed| claimed.event_id).collect::<Vec<_>>(), emitted[..2]);
    assert_eq!(claims.next_due, Some(Duration::ZERO), "there is more");
    let left = claim_one(&other, "book", LONG).await;
    assert_eq!(left.event_id, emitted[2], "the others are leased");
    for lease in claims.deliveries.iter().map(|claimed| claimed.lease).chain([left.lease]) {
        assert!(settle(&store, lease, Outcome::Completed).await);
    }
    assert_eq!((stored(&store, "book").await, count(&store, "book").await.done), ((0, 0), 3));

    emit_many(site, 1).await;
    let relayed = relay_and_claim(&store, wanting(2, &["book", "mail"])).await;
    assert_eq!((relayed.done, relayed.left, relayed.claims.deliveries.len()), (1, 0, 1));
}

pub async fn a_turn_claims_as_an_exchange_does(site: &impl OutboxSite) {
    let [store, _] = two(site).await;
    let older = delivery("book", "older");
    push(&store, vec![older.clone()]).await;
    let relayed = relay_and_claim(&store, wanting(5, &["book"])).await;
    assert_eq!((relayed.done, relayed.claims.deliveries.len()), (0, 0), "nothing was stored");
    let emitted = emit_many(site, 1).await;
    let relayed = relay_and_claim(&store, wanting(1, &["book"])).await;
    assert_eq!((relayed.done, relayed.left), (1, 1));
    assert_eq!(ids(&relayed.claims.deliveries), [older.id], "the older one goes first");
    assert_eq!(claim_one(&store, "book", LONG).await.event_id, emitted[0]);

    admin_of(&store).pause("default".to_owned(), true).await.answered();
    emit_many(site, 1).await;
    let relayed = relay_and_claim(&store, wanting(5, &["book"])).await;
    assert_eq!((relayed.done, relayed.left, relayed.claims.deliveries.len()), (1, 1, 0), "the queue is paused");
}

pub async fn a_row_of_an_uncommitted_transaction_is_not_seen(site: &impl OutboxSite) {
    let [store, _] = two(site).await;
    let unseen = async || {
        let relayed = relay(&store, LONG, Goes::Here).await;
        assert_eq!((relayed.done, relayed.claimed.len()), (0, 0));
        assert_eq!(outbox_of(&store).count().await.answered(), 0);
    };
    site.emit_in("payment that is rolled back", async || {
        unseen().await;
        false
    })
    .await;
    unseen().await;
    site.emit_in("payment that is committed", async || {
        unseen().await;
        true
    })
    .await;
    assert_eq!(outbox_of(&store).count().await.answered(), 1);
    assert_eq!(relay(&store, LONG, Goes::Here).await.done, 1);
}

pub async fn rows_are_not_relayed_by_an_old_catalogue(site: &impl OutboxSite) {
    let [store, other] = two(site).await;
    let old = generation(&store).await;
    emit_many(site, 1).await;
    record(&other, &["a new handler"]).await;
    for goes in [Goes::Here, Goes::Elsewhere, Goes::Nowhere] {
        let relayed = outbox_of(&store).relay(relay_of(old, 10, LONG, goes)).await.answered();
        assert!(relayed.catalogue_moved);
        assert_eq!((relayed.done, relayed.claimed.len()), (0, 0));
    }
    assert_eq!((outbox_of(&store).count().await.answered(), stored(&store, "book").await), (1, (0, 0)));
    assert_eq!(relay(&store, LONG, Goes::Here).await.done, 1);
}
