//! The promises of the catalogue.

use std::time::Duration;

use crate::{
    retry::{Backoff, Policy},
    store::{CatalogueEntry, Record, Route, Swap},
};

use super::{
    Site,
    kit::{Answered, LONG, claim_of, claims, generation, handler, record, record_all, retire, wanting},
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
    assert_eq!(store.catalogue.read().await.answered().handlers, []);
    record_all(&store, two()).await;
    record_all(&other, [handler("count_order")]).await;
    for store in [&store, &other, &site.open().await] {
        let mut read = store.catalogue.read().await.answered().handlers;
        read.sort_by_key(|entry| entry.handler.clone());
        let [mail, payment] = two();
        assert_eq!(read, [payment, handler("count_order"), mail]);
    }
}

pub async fn recording_the_same_handlers_again_moves_no_generation(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record_all(&store, two()).await;
    let recorded = generation(&store).await;
    for store in [&store, &other] {
        record_all(store, two()).await;
        // One of them, or none, retires nobody.
        record_all(store, [two()[0].clone()]).await;
        record_all(store, []).await;
        assert_eq!(generation(store).await, recorded);
    }
    assert_eq!(store.catalogue.read().await.answered().handlers.len(), 2);
}

/// Records the change and checks that it is read; answers the generation before and after.
async fn change(site: &impl Site, changed: CatalogueEntry) -> (u64, u64) {
    let (store, other) = (site.open().await, site.open().await);
    let before = generation(&other).await;
    record_all(&store, [changed.clone()]).await;
    let after = other.catalogue.read().await.answered();
    assert!(after.handlers.contains(&changed), "{changed:?}");
    (before, after.generation)
}

pub async fn a_changed_handler_moves_the_generation(site: &impl Site) {
    record_all(&site.open().await, two()).await;
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
        assert_ne!(after, before, "a process that fans out must know: {changed:?}");
    }
}

pub async fn a_changed_policy_moves_the_generation(site: &impl Site) {
    record_all(&site.open().await, two()).await;
    let [mail, _] = two();
    let (before, after) = change(site, CatalogueEntry { policy: Policy::DEFAULT, ..mail }).await;
    assert_ne!(after, before, "a process without the handler stores the policy that it read with each delivery");
}

pub async fn unique_and_order_keys_are_read_by_every_process(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    let [mail, payment] = two();
    let mail = CatalogueEntry { unique: Some(("order_id".to_owned(), Duration::from_millis(90_001))), ..mail };
    let payment = CatalogueEntry { ordered_by: Some("customer_id".to_owned()), ..payment };
    record_all(&store, [mail.clone(), payment.clone()]).await;
    let mut read = other.catalogue.read().await.answered().handlers;
    read.sort_by_key(|entry| entry.handler.clone());
    assert_eq!(read, [payment, mail]);
}

pub async fn a_changed_key_moves_the_generation(site: &impl Site) {
    record_all(&site.open().await, two()).await;
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
        assert_ne!(after, before, "who stores for the handler must know its keys: {changed:?}");
        let (before, after) = change(site, changed.clone()).await;
        assert_eq!(after, before, "nothing has changed: {changed:?}");
    }
}

pub async fn a_retired_handler_is_gone_and_comes_back_when_recorded(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record_all(&store, two()).await;
    let [mail, payment] = two();
    let recorded = generation(&store).await;
    assert!(retire(&store, "send_mail").await);
    let retired = other.catalogue.read().await.answered();
    assert_eq!(retired.handlers, std::slice::from_ref(&payment));
    assert_ne!(retired.generation, recorded, "nothing is stored for it any more, so who fans out must know");

    assert!(!retire(&other, "send_mail").await, "it was not there");
    assert!(!retire(&other, "a handler that nobody recorded").await);
    assert_eq!(generation(&store).await, retired.generation);

    record_all(&other, [mail]).await;
    let back = store.catalogue.read().await.answered();
    assert_eq!(back.handlers.len(), 2);
    assert_ne!(back.generation, retired.generation);
}

pub async fn the_name_is_the_same_for_the_same_store(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    assert_eq!(store.about.name(), other.about.name());
}

pub async fn what_is_recorded_of_an_old_catalogue_changes_nothing(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    let old = record(&store, &["mail"]).await;
    let began = store.queue.clock().await.answered();
    record(&other, &["stock"]).await;
    let handlers = || [handler("mail"), handler("book")].into();
    let late = Record { generation: old, began, handlers: handlers() };
    assert_eq!(store.catalogue.record(late).await.answered(), Swap::Moved);
    let read = other.catalogue.read().await.answered();
    assert_eq!(read.handlers, [handler("mail"), handler("stock")]);
    let in_time = Record { generation: read.generation, began, handlers: handlers() };
    assert_eq!(store.catalogue.record(in_time.clone()).await.answered(), Swap::Done(()));
    let read = other.catalogue.read().await.answered();
    assert_eq!(read.handlers.len(), 3);
    assert_eq!(store.catalogue.record(in_time).await.answered(), Swap::Moved, "a repetition is late, too");
}

pub async fn what_is_retired_of_an_old_catalogue_stays(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    let old = record(&store, &["mail"]).await;
    record(&other, &["stock"]).await;
    assert_eq!(store.catalogue.retire("mail".to_owned(), old).await.answered(), Swap::Moved);
    let read = other.catalogue.read().await.answered();
    assert_eq!((read.handlers.len(), read.retired.len()), (2, 0));
    assert_eq!(store.catalogue.retire("mail".to_owned(), read.generation).await.answered(), Swap::Done(true));
    assert_eq!(store.catalogue.retire("mail".to_owned(), generation(&store).await).await.answered(), Swap::Done(false));
}

pub async fn a_retired_handler_does_not_come_back_by_a_process_that_began_before(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail", "stock"]).await;
    let began = store.queue.clock().await.answered();
    assert!(retire(&other, "mail").await);
    let handlers = [handler("mail"), handler("book")].into();
    let record = Record { generation: generation(&store).await, began, handlers };
    assert_eq!(store.catalogue.record(record).await.answered(), Swap::Done(()));
    let read = other.catalogue.read().await.answered();
    assert_eq!(read.handlers, [handler("book"), handler("stock")], "the others are recorded");
    assert_eq!(read.retired, ["mail"]);
    // One that begins after it has the handler again.
    record_all(&other, [handler("mail")]).await;
    assert_eq!(store.catalogue.read().await.answered().handlers.len(), 3);
}

pub async fn a_claim_tells_the_generation(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    let told = async || {
        let claim = claim_of(vec![wanting(1, &["mail"])], LONG);
        store.queue.exchange([].into(), Some(claim)).await.answered().generation
    };
    assert_eq!(told().await, Some(generation(&other).await));
    let before = told().await;
    record(&other, &["stock"]).await;
    assert_eq!(told().await, Some(generation(&other).await));
    assert_ne!(told().await, before);
    assert!(claims(&store, vec![wanting(1, &["stock"])], LONG).await.deliveries.is_empty());
}

pub async fn the_identity_is_the_same_for_every_process(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    assert_eq!(store.about.identity(), other.about.identity());
    assert!(!store.about.identity().as_str().is_empty());
    store.catalogue.read().await.answered();
    assert_eq!(store.about.identity(), other.about.identity());
}
