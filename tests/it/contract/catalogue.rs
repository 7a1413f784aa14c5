//! The promises of the catalogue, the counters and the dead letters.

use std::time::Duration;

use evented::{
    Backoff, Policy, Route,
    store::{CatalogueEntry, Outcome},
};

use super::kit::{
    LONG, Opens, SHORT, claim, claim_one, claims, count, dead, delayed, deliveries, delivery, generation, handler,
    push, record, retry, settle, stored, wanting,
};

/// Two handlers with nothing at its default.
fn two() -> [CatalogueEntry; 2] {
    [
        CatalogueEntry {
            aliases: vec!["OrderPlaced/mail".to_owned(), "Order/mail".to_owned()],
            event_aliases: vec!["Order".to_owned()],
            queue: "mail".to_owned(),
            policy: Policy {
                attempts_max: 9,
                backoff: Backoff::Fixed(Duration::from_millis(1_500)),
                timeout: Duration::from_secs(30),
            },
            ..handler("send_mail")
        },
        CatalogueEntry { event: "PaymentCaptured".to_owned(), route: Route::Outbox, ..handler("book_payment") },
    ]
}

pub async fn what_is_recorded_is_read_by_every_process(site: &impl Opens) {
    let (store, other) = (site.open().await, site.open().await);
    assert_eq!(store.catalogue().await.unwrap().handlers, []);
    store.record(two().into()).await.unwrap();
    other.record([handler("count_order")].into()).await.unwrap();
    for store in [&store, &other, &site.open().await] {
        let mut read = store.catalogue().await.unwrap().handlers;
        read.sort_by_key(|entry| entry.handler.clone());
        let [mail, payment] = two();
        assert_eq!(read, [payment, handler("count_order"), mail]);
    }
}

pub async fn recording_the_same_handlers_again_moves_no_generation(site: &impl Opens) {
    let (store, other) = (site.open().await, site.open().await);
    store.record(two().into()).await.unwrap();
    let recorded = generation(&*store).await;
    for store in [&store, &other] {
        store.record(two().into()).await.unwrap();
        // One of them, or none, retires nobody.
        store.record([two()[0].clone()].into()).await.unwrap();
        store.record([].into()).await.unwrap();
        assert_eq!(generation(&**store).await, recorded);
    }
    assert_eq!(store.catalogue().await.unwrap().handlers.len(), 2);
}

/// Records the change and checks that it is read; answers the generation before and after.
async fn change(site: &impl Opens, changed: CatalogueEntry) -> (u64, u64) {
    let (store, other) = (site.open().await, site.open().await);
    let before = generation(&*other).await;
    store.record([changed.clone()].into()).await.unwrap();
    let after = other.catalogue().await.unwrap();
    assert!(after.handlers.contains(&changed), "{changed:?}");
    (before, after.generation)
}

pub async fn a_changed_handler_moves_the_generation(site: &impl Opens) {
    site.open().await.record(two().into()).await.unwrap();
    let [mail, _] = two();
    let changes = [
        handler("a new one"),
        CatalogueEntry { event: "OrderShipped".to_owned(), ..mail.clone() },
        CatalogueEntry { route: Route::Outbox, ..mail.clone() },
        CatalogueEntry { aliases: vec!["send_letter".to_owned()], ..mail.clone() },
        CatalogueEntry { event_aliases: Vec::new(), ..mail },
    ];
    for changed in changes {
        let (before, after) = change(site, changed.clone()).await;
        assert!(after > before, "a process that fans out must know: {changed:?}");
    }
}

pub async fn a_changed_policy_moves_the_generation(site: &impl Opens) {
    site.open().await.record(two().into()).await.unwrap();
    let [mail, _] = two();
    let (before, after) = change(site, CatalogueEntry { policy: Policy::DEFAULT, ..mail }).await;
    assert!(after > before, "a process without the handler stores the policy that it read with each delivery");
}

pub async fn a_retired_handler_is_gone_and_comes_back_when_recorded(site: &impl Opens) {
    let (store, other) = (site.open().await, site.open().await);
    store.record(two().into()).await.unwrap();
    let [mail, payment] = two();
    let recorded = generation(&*store).await;
    assert!(store.retire("send_mail".to_owned()).await.unwrap());
    let retired = other.catalogue().await.unwrap();
    assert_eq!(retired.handlers, std::slice::from_ref(&payment));
    assert!(retired.generation > recorded, "nothing is stored for it any more, so who fans out must know");

    assert!(!other.retire("send_mail".to_owned()).await.unwrap(), "it was not there");
    assert!(!other.retire("a handler that nobody recorded".to_owned()).await.unwrap());
    assert_eq!(generation(&*store).await, retired.generation);

    other.record([mail].into()).await.unwrap();
    let back = store.catalogue().await.unwrap();
    assert_eq!(back.handlers.len(), 2);
    assert!(back.generation > retired.generation);
}

pub async fn counts_tell_what_waits_and_what_was_settled(site: &impl Opens) {
    let (store, other) = (site.open().await, site.open().await);
    store.record(two().into()).await.unwrap();
    push(&*store, deliveries("send_mail", 6)).await;
    push(&*store, [delayed(LONG, delivery("send_mail", "later"))]).await;
    let claimed = claims(&*store, vec![wanting(5, &["send_mail"])], LONG).await.deliveries;
    assert_eq!(claimed.len(), 5);
    let ends = [Outcome::Completed, Outcome::Completed, retry(), dead(1)];
    for (claimed, outcome) in claimed.iter().zip(ends) {
        assert!(settle(&*store, claimed.lease, outcome).await);
    }
    let counted = count(&*other, "send_mail").await;
    assert_eq!((counted.event.as_str(), counted.route), ("OrderPlaced", Route::Background));
    assert_eq!(counted.waiting, 3, "one was not claimed, one is delayed, one is tried again");
    assert_eq!(counted.running, 1);
    assert_eq!((counted.done, counted.retried, counted.dead), (2, 1, 1));
    let counted = count(&*other, "book_payment").await;
    assert_eq!((counted.event.as_str(), counted.route), ("PaymentCaptured", Route::Outbox));
    assert_eq!((counted.waiting, counted.running, counted.done, counted.retried, counted.dead), (0, 0, 0, 0, 0));
}

pub async fn a_delivery_whose_lease_ended_is_counted_as_waiting(site: &impl Opens) {
    let store = site.open().await;
    record(&*store, &["mail"]).await;
    push(&*store, deliveries("mail", 2)).await;
    assert_eq!(claim(&*store, &["mail"], SHORT).await.len(), 2);
    // Both leases end at once, so when one can be claimed the other one has ended, too.
    evented_tests::eventually("the leases end", async || {
        !claims(&*store, vec![wanting(1, &["mail"])], LONG).await.deliveries.is_empty()
    })
    .await;
    assert_eq!(stored(&*store, "mail").await, (1, 1), "one is leased now, and the other one is nobody's");
}

pub async fn dead_letters_are_told_newest_first_and_limited(site: &impl Opens) {
    let (store, other) = (site.open().await, site.open().await);
    record(&*store, &["mail", "stock"]).await;
    assert!(store.dead_letters(None, 10).await.unwrap().is_empty());
    for number in 0..5_u32 {
        let handler = if number % 2 == 0 { "mail" } else { "stock" };
        push(&*store, [delivery(handler, &format!("order {number}"))]).await;
        let claimed = claim_one(&*store, handler, LONG).await;
        assert!(settle(&*store, claimed.lease, dead(number)).await);
    }
    let attempts = async |limit| {
        let letters = other.dead_letters(None, limit).await.unwrap();
        letters.into_iter().map(|letter| letter.attempts).collect::<Vec<_>>()
    };
    assert_eq!(attempts(10).await, [4, 3, 2, 1, 0]);
    assert_eq!(attempts(3).await, [4, 3, 2]);
    assert!(attempts(0).await.is_empty());
}

pub async fn the_name_is_the_same_for_the_same_store(site: &impl Opens) {
    let (store, other) = (site.open().await, site.open().await);
    assert_eq!(store.name(), other.name());
}
