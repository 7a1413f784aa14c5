//! The promises of what a person looks at and decides: counters, dead letters, what is kept.

use std::time::Duration;

use crate::{
    id::DeliveryId,
    retry::{Backoff, Policy},
    store::{Blame, CatalogueEntry, Letters, NewDelivery, Outcome, Route, Settlement, Step, Store, StoreTime},
    time,
};

use super::{
    Site,
    kit::{
        Answered, LONG, SHORT, admin_of, claim, claim_one, claim_one_when_due, claims, count, counts, dead, delayed,
        deliveries, delivery, discard, eventually, handler, has_passed, ids, nothing_is_due, push, record, record_all,
        requeue, retry, settle, stored, wanting,
    },
    wait::{ends_at_once, quiet},
};

pub async fn counts_tell_what_waits_and_what_was_settled(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    let payment =
        CatalogueEntry { event: "PaymentCaptured".to_owned(), route: Route::Outbox, ..handler("book_payment") };
    record_all(&store, [handler("send_mail"), payment]).await;
    push(&store, deliveries("send_mail", 6)).await;
    push(&store, [delayed(LONG, delivery("send_mail", "later"))]).await;
    let claimed = claims(&store, vec![wanting(5, &["send_mail"])], LONG).await.deliveries;
    assert_eq!(claimed.len(), 5);
    let ends = [Outcome::Completed, Outcome::Completed, retry(), dead(1)];
    for (claimed, outcome) in claimed.iter().zip(ends) {
        assert!(settle(&store, claimed.lease, outcome).await);
    }
    let counted = count(&other, "send_mail").await;
    assert_eq!((counted.event.as_str(), counted.route), ("OrderPlaced", Route::Background));
    assert_eq!(counted.waiting, 3, "one was not claimed, one is delayed, one is tried again");
    assert_eq!(counted.running, 1);
    assert_eq!((counted.done, counted.retried, counted.dead), (2, 1, 1));
    let counted = count(&other, "book_payment").await;
    assert_eq!((counted.event.as_str(), counted.route), ("PaymentCaptured", Route::Outbox));
    assert_eq!((counted.waiting, counted.running, counted.done, counted.retried, counted.dead), (0, 0, 0, 0, 0));
}

pub async fn a_delivery_whose_lease_ended_is_counted_as_waiting(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    push(&store, deliveries("mail", 2)).await;
    assert_eq!(claim(&store, &["mail"], SHORT).await.len(), 2);
    // Both leases end at once, so when one can be claimed the other one has ended, too.
    eventually("the leases end", async || {
        !claims(&store, vec![wanting(1, &["mail"])], LONG).await.deliveries.is_empty()
    })
    .await;
    assert_eq!(stored(&store, "mail").await, (1, 1), "one is leased now, and the other one is nobody's");
}

pub async fn dead_letters_are_told_newest_first_and_limited(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail", "stock"]).await;
    assert!(admin_of(&store).dead_letters(None, 10).await.answered().is_empty());
    for number in 0..5_u32 {
        let handler = if number % 2 == 0 { "mail" } else { "stock" };
        push(&store, [delivery(handler, &format!("order {number}"))]).await;
        let claimed = claim_one(&store, handler, LONG).await;
        assert!(settle(&store, claimed.lease, dead(number)).await);
    }
    let attempts = async |limit| {
        let letters = admin_of(&other).dead_letters(None, limit).await.answered();
        letters.into_iter().map(|letter| letter.attempts).collect::<Vec<_>>()
    };
    assert_eq!(attempts(10).await, [4, 3, 2, 1, 0]);
    assert_eq!(attempts(3).await, [4, 3, 2]);
    assert!(attempts(0).await.is_empty());
}

/// Makes a dead letter of each of these events for the handler, in this order; answers their ids.
async fn bury(store: &Store, handler: &str, keys: &[&str]) -> Vec<DeliveryId> {
    let mut buried = Vec::new();
    for key in keys {
        push(store, [delivery(handler, key)]).await;
        let claimed = claim_one(store, handler, LONG).await;
        assert!(settle(store, claimed.lease, dead(3)).await);
        buried.push(claimed.lease.delivery);
    }
    buried
}

/// The dead letters that are told, sorted.
async fn letters(store: &Store, handler: Option<&str>) -> Vec<DeliveryId> {
    let letters = admin_of(store).dead_letters(handler.map(str::to_owned), 100).await.answered();
    let mut letters: Vec<_> = letters.into_iter().map(|letter| letter.id).collect();
    letters.sort();
    letters
}

fn sorted(mut ids: Vec<DeliveryId>) -> Vec<DeliveryId> {
    ids.sort();
    ids
}

pub async fn stats_tell_the_queue_of_each_handler(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    let mail = CatalogueEntry { queue: "letters".to_owned(), ..handler("mail") };
    record_all(&store, [mail, handler("stock")]).await;
    let told: Vec<_> = counts(&other).await.into_iter().map(|count| (count.handler, count.queue)).collect();
    let expected = [("mail", "letters"), ("stock", "default")];
    assert_eq!(told, expected.map(|(handler, queue)| (handler.to_owned(), queue.to_owned())), "sorted by handler");
    // As it was recorded last.
    record_all(&store, [handler("mail")]).await;
    assert_eq!(count(&other, "mail").await.queue, "default");
}

pub async fn stats_tell_for_how_long_a_delivery_is_due(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    let due_for = async || count(&other, "mail").await.due_for;
    assert_eq!(due_for().await, None, "none is stored");
    push(&store, [delayed(LONG, delivery("mail", "order 17"))]).await;
    assert_eq!(due_for().await, None, "none is due");
    let began = time::now();
    push(&store, [delivery("mail", "order 18")]).await;
    let waited = Duration::from_millis(200);
    eventually("it is due for a while", async || due_for().await.is_some_and(|due_for| due_for >= waited)).await;
    has_passed(waited, began);
    push(&store, [delivery("mail", "order 19")]).await;
    assert!(
        due_for().await.is_some_and(|due_for| due_for >= waited),
        "the one that is due for the longest time counts"
    );
    for claimed in claim(&store, &["mail"], LONG).await {
        assert_eq!(due_for().await, None, "what is leased is not due");
        assert!(settle(&store, claimed.lease, Outcome::Completed).await);
    }
}

pub async fn dead_letters_of_one_handler_are_told(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail", "stock", "metrics"]).await;
    let of_mail = bury(&store, "mail", &["order 17", "order 18"]).await;
    let of_stock = bury(&store, "stock", &["order 17"]).await;
    assert_eq!(letters(&other, Some("mail")).await, sorted(of_mail.clone()));
    assert_eq!(letters(&other, Some("stock")).await, of_stock);
    for none in ["metrics", "a handler that nobody recorded"] {
        assert!(letters(&other, Some(none)).await.is_empty());
    }
    let newest = admin_of(&other).dead_letters(Some("mail".to_owned()), 1).await.answered();
    assert_eq!(newest.iter().map(|letter| letter.id).collect::<Vec<_>>(), of_mail[1..]);
}

pub async fn a_requeued_dead_letter_is_due_at_once_with_all_its_attempts(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    let policy = Policy { attempts_max: 2, backoff: Backoff::Fixed(SHORT), timeout: LONG };
    let pushed =
        NewDelivery { policy, version: 0, emitted_unix_ms: Some(1_700_000_000_123), ..delivery("mail", "order 17") };
    push(&store, [pushed.clone()]).await;
    // It has failed, and killed a worker, before it died.
    let first = claim_one(&store, "mail", LONG).await;
    assert!(settle(&store, first.lease, retry()).await);
    claim_one(&store, "mail", SHORT).await;
    let lost = claim_one_when_due(&store, "mail", LONG).await;
    assert!(settle(&store, lost.lease, dead(2)).await);

    assert_eq!(requeue(&other, Letters::One(pushed.id)).await, 1);
    assert!(letters(&store, None).await.is_empty(), "it is no letter any more");
    let claimed = claim_one(&store, "mail", LONG).await;
    assert_eq!((claimed.lease.delivery, claimed.event_id), (pushed.id, pushed.event_id));
    assert_eq!((claimed.failed, claimed.blame), (0, Blame::default()));
    assert_eq!((claimed.policy, claimed.version, claimed.emitted_unix_ms), (policy, 0, 1_700_000_000_123));
    assert_eq!(claimed.payload, *pushed.payload);
    assert!(settle(&store, claimed.lease, Outcome::Completed).await);
    assert_eq!(requeue(&other, Letters::One(pushed.id)).await, 0, "it is requeued once");
    nothing_is_due(&store, "mail").await;
}

pub async fn all_dead_letters_of_a_handler_are_requeued(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail", "stock"]).await;
    let of_mail = bury(&store, "mail", &["order 17", "order 18", "order 19"]).await;
    let of_stock = bury(&store, "stock", &["order 17"]).await;
    assert_eq!(requeue(&other, Letters::Of("mail".to_owned())).await, 3);
    assert_eq!(letters(&store, None).await, of_stock);
    assert_eq!(ids(&claim(&store, &["mail", "stock"], LONG).await), sorted(of_mail));
}

pub async fn a_requeued_dead_letter_leaves_the_delivery_that_is_there(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    let buried = bury(&store, "mail", &["order 17"]).await;
    // Its event is emitted again under the same id, and somebody has it in hand.
    push(&other, [delivery("mail", "order 17")]).await;
    let held = claim_one(&store, "mail", LONG).await;
    assert_eq!(held.lease.delivery, buried[0]);
    assert_eq!(requeue(&other, Letters::One(buried[0])).await, 1);
    assert_eq!(letters(&store, None).await, []);
    nothing_is_due(&other, "mail").await;
    assert!(settle(&store, held.lease, Outcome::Completed).await, "it has its lease still");
    nothing_is_due(&other, "mail").await;
    assert_eq!(stored(&store, "mail").await, (0, 0));
}

pub async fn one_dead_letter_is_discarded(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    let buried = bury(&store, "mail", &["order 17", "order 18"]).await;
    assert_eq!(discard(&other, Letters::One(buried[0])).await, 1);
    assert_eq!(discard(&other, Letters::One(buried[0])).await, 0, "it is gone");
    assert_eq!(letters(&store, None).await, buried[1..]);
    assert_eq!(count(&store, "mail").await.dead, 2, "what has died stays counted");
    nothing_is_due(&store, "mail").await;
}

pub async fn all_dead_letters_of_a_handler_are_discarded(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail", "stock"]).await;
    bury(&store, "mail", &["order 17", "order 18", "order 19"]).await;
    let of_stock = bury(&store, "stock", &["order 17"]).await;
    assert_eq!(discard(&other, Letters::Of("mail".to_owned())).await, 3);
    assert_eq!(letters(&store, None).await, of_stock);
    assert_eq!(requeue(&other, Letters::Of("mail".to_owned())).await, 0);
}

pub async fn what_is_no_dead_letter_is_neither_requeued_nor_discarded(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail", "stock"]).await;
    push(&store, deliveries("mail", 2)).await;
    let claimed = claims(&store, vec![wanting(1, &["mail"])], LONG).await.deliveries;
    let of_stock = bury(&store, "stock", &["order 17"]).await;
    let nobody = delivery("mail", "an event that nobody emitted").id;
    for id in [nobody, claimed[0].lease.delivery, deliveries("mail", 2)[1].id] {
        assert_eq!(requeue(&store, Letters::One(id)).await, 0);
        assert_eq!(discard(&store, Letters::One(id)).await, 0);
    }
    for handler in ["mail", "a handler that nobody recorded"] {
        assert_eq!(requeue(&store, Letters::Of(handler.to_owned())).await, 0);
        assert_eq!(discard(&store, Letters::Of(handler.to_owned())).await, 0);
    }
    assert_eq!(letters(&store, None).await, of_stock);
    assert_eq!(stored(&store, "mail").await, (1, 1));
    assert!(settle(&store, claimed[0].lease, Outcome::Completed).await, "its lease is held");
}

pub async fn a_requeue_ends_a_wait(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    bury(&store, "mail", &["order 17"]).await;
    let seen = quiet(&store).await;
    assert_eq!(requeue(&other, Letters::Of("mail".to_owned())).await, 1);
    ends_at_once(&store, seen).await;
}

pub async fn what_dies_after_a_requeue_or_a_discard_began_stays(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    let bury = async |key: &str| {
        push(&store, [delivery("mail", key)]).await;
        let claimed = claim_one(&store, "mail", LONG).await;
        assert!(settle(&store, claimed.lease, dead(1)).await);
        claimed.lease.delivery
    };
    bury("order 17").await;
    let began = store.queue.clock().await.answered();
    eventually("time has passed", async || store.queue.clock().await.answered() > began).await;
    let later = bury("order 18").await;
    let of_mail = || Letters::Of("mail".to_owned());
    for letters in [of_mail(), Letters::One(later)] {
        let before = StoreTime(began.0 - 60_000);
        assert_eq!(admin_of(&other).requeue(letters.clone(), before).await.answered(), Step::default());
        assert_eq!(admin_of(&other).discard(letters, before).await.answered(), Step::default());
    }
    assert_eq!(admin_of(&other).requeue(Letters::One(later), began).await.answered().count, 0);
    assert_eq!(admin_of(&other).requeue(of_mail(), began).await.answered().count, 1);
    assert_eq!(admin_of(&other).discard(of_mail(), began).await.answered().count, 0);
    let left = admin_of(&store).dead_letters(None, 10).await.answered();
    assert_eq!(left.iter().map(|letter| letter.id).collect::<Vec<_>>(), [later]);
}

pub async fn many_dead_letters_are_requeued_and_discarded_in_steps(site: &impl Site) {
    const COUNT: usize = 2_500;
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    push(&store, deliveries("mail", COUNT)).await;
    let mut requeued = 0;
    for round in 0..2 {
        let mut claimed = Vec::new();
        while claimed.len() < COUNT {
            claimed.extend(claim(&store, &["mail"], LONG).await);
        }
        let letters: Vec<_> =
            claimed.iter().map(|claimed| Settlement { lease: claimed.lease, outcome: dead(1) }).collect();
        for some in letters.chunks(500) {
            let held = store.queue.exchange(some.into(), None).await.answered().held;
            assert!(held.iter().all(|held| *held));
        }
        if round == 0 {
            requeued += requeue(&other, Letters::Of("mail".to_owned())).await;
            assert_eq!((requeued, stored(&store, "mail").await), (COUNT as u64, (COUNT as u64, 0)));
        }
    }
    assert_eq!(discard(&other, Letters::Of("mail".to_owned())).await, COUNT as u64);
    assert_eq!(
        (admin_of(&store).dead_letters(None, 10).await.answered().len(), stored(&store, "mail").await),
        (0, (0, 0))
    );
}
