//! The promises of what a person looks at and decides.

use crate::store::{CatalogueEntry, Outcome, Route};

use super::{
    Site,
    kit::{
        Answered, LONG, SHORT, claim, claim_one, claims, count, dead, delayed, deliveries, delivery, eventually,
        handler, push, record, retry, settle, stored, wanting,
    },
};

pub async fn counts_tell_what_waits_and_what_was_settled(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    let payment =
        CatalogueEntry { event: "PaymentCaptured".to_owned(), route: Route::Outbox, ..handler("book_payment") };
    store.record([handler("send_mail"), payment].into()).await.answered();
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

pub async fn a_delivery_whose_lease_ended_is_counted_as_waiting(site: &impl Site) {
    let store = site.open().await;
    record(&*store, &["mail"]).await;
    push(&*store, deliveries("mail", 2)).await;
    assert_eq!(claim(&*store, &["mail"], SHORT).await.len(), 2);
    // Both leases end at once, so when one can be claimed the other one has ended, too.
    eventually("the leases end", async || {
        !claims(&*store, vec![wanting(1, &["mail"])], LONG).await.deliveries.is_empty()
    })
    .await;
    assert_eq!(stored(&*store, "mail").await, (1, 1), "one is leased now, and the other one is nobody's");
}

pub async fn dead_letters_are_told_newest_first_and_limited(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&*store, &["mail", "stock"]).await;
    assert!(store.dead_letters(None, 10).await.answered().is_empty());
    for number in 0..5_u32 {
        let handler = if number % 2 == 0 { "mail" } else { "stock" };
        push(&*store, [delivery(handler, &format!("order {number}"))]).await;
        let claimed = claim_one(&*store, handler, LONG).await;
        assert!(settle(&*store, claimed.lease, dead(number)).await);
    }
    let attempts = async |limit| {
        let letters = other.dead_letters(None, limit).await.answered();
        letters.into_iter().map(|letter| letter.attempts).collect::<Vec<_>>()
    };
    assert_eq!(attempts(10).await, [4, 3, 2, 1, 0]);
    assert_eq!(attempts(3).await, [4, 3, 2]);
    assert!(attempts(0).await.is_empty());
}
