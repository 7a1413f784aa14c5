//! The promises of the catalogue.

use std::time::Duration;

use crate::{
    retry::{Backoff, Policy},
    store::{CatalogueEntry, Route},
};

use super::{
    Site,
    kit::{Answered, generation, handler},
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

pub async fn what_is_recorded_is_read_by_every_process(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    assert_eq!(store.catalogue().await.answered().handlers, []);
    store.record(two().into()).await.answered();
    other.record([handler("count_order")].into()).await.answered();
    for store in [&store, &other, &site.open().await] {
        let mut read = store.catalogue().await.answered().handlers;
        read.sort_by_key(|entry| entry.handler.clone());
        let [mail, payment] = two();
        assert_eq!(read, [payment, handler("count_order"), mail]);
    }
}

pub async fn recording_the_same_handlers_again_moves_no_generation(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    store.record(two().into()).await.answered();
    let recorded = generation(&*store).await;
    for store in [&store, &other] {
        store.record(two().into()).await.answered();
        // One of them, or none, retires nobody.
        store.record([two()[0].clone()].into()).await.answered();
        store.record([].into()).await.answered();
        assert_eq!(generation(&**store).await, recorded);
    }
    assert_eq!(store.catalogue().await.answered().handlers.len(), 2);
}

/// Records the change and checks that it is read; answers the generation before and after.
async fn change(site: &impl Site, changed: CatalogueEntry) -> (u64, u64) {
    let (store, other) = (site.open().await, site.open().await);
    let before = generation(&*other).await;
    store.record([changed.clone()].into()).await.answered();
    let after = other.catalogue().await.answered();
    assert!(after.handlers.contains(&changed), "{changed:?}");
    (before, after.generation)
}

pub async fn a_changed_handler_moves_the_generation(site: &impl Site) {
    site.open().await.record(two().into()).await.answered();
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

pub async fn a_changed_policy_moves_the_generation(site: &impl Site) {
    site.open().await.record(two().into()).await.answered();
    let [mail, _] = two();
    let (before, after) = change(site, CatalogueEntry { policy: Policy::DEFAULT, ..mail }).await;
    assert!(after > before, "a process without the handler stores the policy that it read with each delivery");
}

pub async fn unique_and_order_keys_are_read_by_every_process(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    let [mail, payment] = two();
    let mail = CatalogueEntry { unique: Some(("order_id".to_owned(), Duration::from_millis(90_001))), ..mail };
    let payment = CatalogueEntry { ordered_by: Some("customer_id".to_owned()), ..payment };
    store.record([mail.clone(), payment.clone()].into()).await.answered();
    let mut read = other.catalogue().await.answered().handlers;
    read.sort_by_key(|entry| entry.handler.clone());
    assert_eq!(read, [payment, mail]);
}

pub async fn a_changed_key_moves_the_generation(site: &impl Site) {
    site.open().await.record(two().into()).await.answered();
    let [mail, _] = two();
    let unique = |field: &str, seconds| Some((field.to_owned(), Duration::from_secs(seconds)));
    let ordered_by = |field: &str| Some(field.to_owned());
    // Each is a change of the one before it.
    let changes = [
        CatalogueEntry { unique: unique("order_id", 60), ..mail.clone() },
        CatalogueEntry { unique: unique("order_id", 61), ..mail.clone() },
        CatalogueEntry { unique: unique("customer_id", 61), ..mail.clone() },
        CatalogueEntry { ordered_by: ordered_by("order_id"), ..mail.clone() },
        CatalogueEntry { ordered_by: ordered_by("customer_id"), ..mail.clone() },
        CatalogueEntry { queue: "another".to_owned(), ..mail.clone() },
        mail,
    ];
    for changed in changes {
        let (before, after) = change(site, changed.clone()).await;
        assert!(after > before, "who stores for the handler must know its keys: {changed:?}");
        let (before, after) = change(site, changed.clone()).await;
        assert_eq!(after, before, "nothing has changed: {changed:?}");
    }
}

pub async fn a_retired_handler_is_gone_and_comes_back_when_recorded(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    store.record(two().into()).await.answered();
    let [mail, payment] = two();
    let recorded = generation(&*store).await;
    assert!(store.retire("send_mail".to_owned()).await.answered());
    let retired = other.catalogue().await.answered();
    assert_eq!(retired.handlers, std::slice::from_ref(&payment));
    assert!(retired.generation > recorded, "nothing is stored for it any more, so who fans out must know");

    assert!(!other.retire("send_mail".to_owned()).await.answered(), "it was not there");
    assert!(!other.retire("a handler that nobody recorded".to_owned()).await.answered());
    assert_eq!(generation(&*store).await, retired.generation);

    other.record([mail].into()).await.answered();
    let back = store.catalogue().await.answered();
    assert_eq!(back.handlers.len(), 2);
    assert!(back.generation > retired.generation);
}

pub async fn the_name_is_the_same_for_the_same_store(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    assert_eq!(store.name(), other.name());
}
