//! The promises of `settle`.

use std::time::Duration;

use crate::{
    origin::Origin,
    retry::{Backoff, Policy},
    store::{Blame, NewDelivery, Outcome, Settlement},
    time,
};

use super::{
    Site,
    kit::{
        Answered, LONG, admin_of, claim, claim_one, claim_one_when_due, count, counts, dead, deliveries, delivery,
        has_passed, lose, nothing_is_due, push, record, retry, settle, stored,
    },
};

pub async fn a_completed_delivery_is_gone_and_counted(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail", "stock"]).await;
    push(&store, deliveries("mail", 3)).await;
    let claimed = claim(&store, &["mail"], LONG).await;
    let all = claimed.iter().map(|claimed| Settlement { lease: claimed.lease, outcome: Outcome::Completed });
    assert_eq!(store.queue.exchange(all.collect(), None).await.answered().held, [true; 3]);
    let counted = count(&other, "mail").await;
    assert_eq!((counted.done, counted.retried, counted.dead), (3, 0, 0));
    assert_eq!((counted.waiting, counted.running), (0, 0));
    assert_eq!(count(&other, "stock").await.done, 0);
    assert!(!settle(&store, claimed[0].lease, Outcome::Completed).await, "it is settled once");
    assert_eq!(count(&store, "mail").await.done, 3);
    nothing_is_due(&other, "mail").await;
}

pub async fn a_retry_is_due_after_its_delay_and_counts_the_attempt(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    push(&store, [delivery("mail", "order 17")]).await;
    for failed in 0..3 {
        let claimed = claim_one_when_due(&store, "mail", LONG).await;
        assert_eq!(claimed.failed, failed);
        let delay = Duration::from_millis(300);
        let began = time::now();
        let error = "the mail server is away".to_owned();
        assert!(settle(&store, claimed.lease, Outcome::Retry { delay, error }).await);
        assert_eq!(count(&store, "mail").await.retried, u64::from(failed) + 1);
        assert!(!settle(&store, claimed.lease, Outcome::Completed).await, "the lease ended with the settlement");
        let again = claim_one_when_due(&store, "mail", LONG).await;
        has_passed(delay, began);
        assert_eq!(again.payload, b"order 17");
        assert!(settle(&store, again.lease, Outcome::Released).await);
    }
}

pub async fn a_delivery_is_the_same_in_every_attempt(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    let policy = Policy { attempts_max: 3, backoff: Backoff::Fixed(LONG), timeout: LONG };
    let before = delivery("mail", "the event before it").event_id;
    let origin = Origin { correlation: before, causation: Some(before), trace: Some("00-4bf92f35-01".into()) };
    let emitted_unix_ms = Some(1_700_000_000_123);
    let pushed = NewDelivery { origin: origin.clone(), emitted_unix_ms, policy, ..delivery("mail", "order 17") };
    push(&store, [pushed.clone()]).await;
    for store in [&store, &other, &store] {
        let claimed = claim_one(store, "mail", LONG).await;
        assert_eq!((claimed.lease.delivery, claimed.event_id), (pushed.id, pushed.event_id));
        assert_eq!((&claimed.origin, claimed.emitted_unix_ms), (&origin, 1_700_000_000_123));
        assert_eq!((claimed.policy, claimed.version), (policy, pushed.version));
        assert_eq!(claimed.payload, *pushed.payload);
        assert!(settle(store, claimed.lease, retry()).await);
    }
}

pub async fn failed_attempts_are_counted_across_releases_and_lost_leases(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    push(&store, [delivery("mail", "order 17")]).await;
    for (failed, store) in (0..3).zip([&store, &other, &store]) {
        let released = claim_one(store, "mail", LONG).await;
        assert_eq!(released.failed, failed);
        assert!(settle(store, released.lease, Outcome::Released).await);
        let (_, held) = lose(store, &other, "mail").await;
        assert_eq!(held.failed, failed, "neither costs an attempt, nor gives one back");
        assert!(settle(&other, held.lease, retry()).await);
    }
    assert_eq!(count(&store, "mail").await.retried, 3);
}

pub async fn a_dead_letter_is_kept_with_its_error_and_never_claimed(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    let pushed = delivery("mail", "order 17");
    push(&store, [pushed.clone()]).await;
    let claimed = claim_one(&store, "mail", LONG).await;
    assert!(settle(&store, claimed.lease, dead(4)).await);
    let letters = admin_of(&other).dead_letters(None, 10).await.answered();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.id, letter.event_id), (pushed.id, pushed.event_id));
    assert_eq!((letter.handler.as_str(), letter.attempts, letter.error.as_str()), ("mail", 4, "no such address"));
    assert_eq!(letter.payload, *pushed.payload);
    assert!(letter.died_at >= std::time::UNIX_EPOCH + Duration::from_millis(claimed.emitted_unix_ms.cast_unsigned()));
    let counted = count(&store, "mail").await;
    assert_eq!((counted.dead, counted.done, counted.waiting, counted.running), (1, 0, 0, 0));
    assert!(!settle(&store, claimed.lease, dead(4)).await, "it dies once");
    assert_eq!(admin_of(&store).dead_letters(None, 10).await.answered().len(), 1);
    nothing_is_due(&other, "mail").await;
}

pub async fn a_released_delivery_is_due_at_once_and_costs_no_attempt(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    push(&store, [delivery("mail", "order 17")]).await;
    let first = claim_one(&store, "mail", LONG).await;
    assert!(settle(&store, first.lease, Outcome::Released).await);
    assert_eq!(stored(&store, "mail").await, (1, 0));
    let second = claim_one(&other, "mail", LONG).await;
    assert_eq!(second.lease.delivery, first.lease.delivery);
    assert_eq!((second.failed, second.blame), (0, Blame::default()));
    let counted = count(&store, "mail").await;
    assert_eq!((counted.done, counted.retried, counted.dead), (0, 0, 0));
}

pub async fn a_late_settlement_changes_nothing(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    for (done, outcome) in (1..).zip([Outcome::Completed, retry(), dead(1), Outcome::Released]) {
        push(&store, [delivery("mail", &format!("order {done}"))]).await;
        let (late, held) = lose(&store, &other, "mail").await;
        let before = counts(&store).await;
        assert!(!settle(&store, late, outcome.clone()).await, "{outcome:?} came late");
        assert_eq!(counts(&store).await, before, "{outcome:?} came late");
        assert!(admin_of(&store).dead_letters(None, 10).await.answered().is_empty(), "{outcome:?} came late");
        // It is neither due nor gone: whoever holds it settles it, and then it has failed no attempt.
        assert!(claim(&store, &["mail"], LONG).await.is_empty(), "{outcome:?} came late");
        assert!(settle(&other, held.lease, Outcome::Released).await, "{outcome:?} came late");
        let held = claim_one(&other, "mail", LONG).await;
        assert_eq!(held.failed, 0, "{outcome:?} came late");
        assert!(settle(&other, held.lease, Outcome::Completed).await);
        assert!(!settle(&store, late, outcome.clone()).await, "{outcome:?} came when all was over");
        let counted = count(&store, "mail").await;
        assert_eq!((counted.done, counted.retried, counted.dead), (done, 0, 0), "{outcome:?} came when all was over");
    }
}

pub async fn one_late_settlement_does_not_spoil_its_batch(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail", "stock"]).await;
    push(&store, [delivery("mail", "order 17")]).await;
    let (late, held) = lose(&store, &other, "mail").await;
    push(&store, deliveries("stock", 4)).await;
    let claimed = claim(&store, &["stock"], LONG).await;
    let outcomes = [Outcome::Completed, dead(1), Outcome::Completed, retry(), Outcome::Released];
    let leases = [claimed[0].lease, claimed[1].lease, late, claimed[2].lease, claimed[3].lease];
    let batch = leases.into_iter().zip(outcomes).map(|(lease, outcome)| Settlement { lease, outcome });
    assert_eq!(store.queue.exchange(batch.collect(), None).await.answered().held, [true, true, false, true, true]);
    let counted = count(&store, "stock").await;
    assert_eq!((counted.done, counted.dead, counted.retried, counted.waiting), (1, 1, 1, 2));
    assert_eq!(stored(&store, "mail").await, (0, 1));
    assert!(settle(&other, held.lease, Outcome::Completed).await);
}

pub async fn a_late_settlement_is_told_beside_the_one_in_time(site: &impl Site) {
    // A process that was suspended may claim again what it lost, and then settles both in one batch.
    let store = site.open().await;
    record(&store, &["mail"]).await;
    let ends = [
        (Outcome::Completed, Outcome::Completed),
        (retry(), Outcome::Completed),
        (Outcome::Released, Outcome::Released),
        (Outcome::Completed, retry()),
    ];
    for (late_outcome, outcome) in ends {
        push(&store, [delivery("mail", "order 17")]).await;
        let (late, held) = lose(&store, &store, "mail").await;
        let late = Settlement { lease: late, outcome: late_outcome };
        let in_time = Settlement { lease: held.lease, outcome };
        let settled = store.queue.exchange([late.clone(), in_time].into(), None).await.answered().held;
        assert_eq!(settled, [false, true], "{late:?}");
    }
}
