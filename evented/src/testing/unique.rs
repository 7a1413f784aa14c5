//! The promises of unique keys.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::{
    id::Key,
    store::{NewDelivery, Outcome, Push, Pushed, UniqueKey},
    time,
};

use super::{
    Site,
    kit::{
        Answered, LONG, claim, claim_one, dead, delayed, delivery, eventually, generation, has_passed, ids, new_ids,
        push, record, settle, stored,
    },
};

/// The event `key` for the handler, unique by `value`.
fn unique(handler: &str, key: &str, value: &str, within: Duration) -> NewDelivery {
    let unique = UniqueKey { key: Key::derive(handler, value), within };
    NewDelivery { unique: Some(unique), ..delivery(handler, key) }
}

pub async fn a_second_delivery_of_a_key_is_not_stored_within_its_time(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    let first = unique("mail", "first", "order 17", LONG);
    push(&store, [first.clone()]).await;
    for store in [&store, &other] {
        push(store, [unique("mail", "second", "order 17", LONG), unique("mail", "third", "order 17", LONG)]).await;
        // The time is that of the first: the others' own do not matter.
        push(store, [unique("mail", "fourth", "order 17", Duration::ZERO)]).await;
    }
    // Neither a delivery of another value nor one without a key is meant.
    let others = [unique("mail", "fifth", "order 18", LONG), delivery("mail", "order 17")];
    push(&store, others.clone()).await;
    let [fifth, plain] = others;
    assert_eq!(ids(&claim(&store, &["mail"], LONG).await), new_ids(&[first, fifth, plain]));
}

pub async fn a_delivery_of_a_key_is_stored_after_its_time(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    let within = Duration::from_millis(400);
    let began = time::now();
    push(&store, [unique("mail", "first", "order 17", within)]).await;
    claim_one(&store, "mail", LONG).await;
    let mut number = 0;
    eventually("another delivery of the key is stored", async || {
        number += 1;
        push(&store, [unique("mail", &format!("another {number}"), "order 17", within)]).await;
        stored(&store, "mail").await == (1, 1)
    })
    .await;
    has_passed(within, began);
    // It stands for the others from now on.
    push(&store, [unique("mail", "one more", "order 17", LONG)]).await;
    let claimed = claim_one(&store, "mail", LONG).await;
    assert_eq!(claimed.lease.delivery, delivery("mail", &format!("another {number}")).id);
}

pub async fn a_delivery_pushed_again_is_not_its_own_duplicate(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    let first = unique("mail", "first", "order 17", LONG);
    for store in [&store, &other] {
        push(store, [first.clone(), first.clone()]).await;
        assert_eq!(stored(&other, "mail").await, (1, 0), "it is there, and left as it is");
    }
    let claimed = claim_one(&store, "mail", LONG).await;
    assert!(settle(&store, claimed.lease, Outcome::Completed).await);
    // Without `once`, what is done is forgotten, but by its key.
    push(&store, [first.clone()]).await;
    assert_eq!(claim_one(&store, "mail", LONG).await.lease.delivery, first.id);
}

pub async fn a_repeated_push_does_not_extend_the_time_of_its_key(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    let within = Duration::from_millis(400);
    let began = time::now();
    let first = delayed(LONG, unique("mail", "first", "order 17", within));
    push(&store, [first.clone()]).await;
    // Another key, stored later: when its time is over, that of the first is, too.
    push(&store, [unique("mail", "clock", "order 18", within)]).await;
    let mut number = 0;
    eventually("the time of both is over", async || {
        number += 1;
        push(&store, [first.clone()]).await;
        push(&store, [unique("mail", &format!("clock {number}"), "order 18", within)]).await;
        stored(&store, "mail").await == (3, 0)
    })
    .await;
    has_passed(within, began);
    // The first waits still, and pushed again it is left as it is.
    push(&store, [first.clone(), unique("mail", "second", "order 17", within)]).await;
    assert_eq!(stored(&store, "mail").await, (4, 0), "the second is stored, since the first was not stored again");
}

pub async fn a_delivery_that_is_done_and_pushed_again_does_not_extend_the_time_of_its_key(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    let within = Duration::from_secs(2);
    let began = time::now();
    let first = unique("mail", "first", "order 17", within);
    push(&store, [first.clone()]).await;
    push(&store, [unique("mail", "clock", "order 18", within)]).await;
    for claimed in claim(&store, &["mail"], LONG).await {
        assert!(settle(&store, claimed.lease, Outcome::Completed).await);
    }
    time::sleep(within / 4).await;
    push(&store, [first]).await;
    if began.elapsed() > within {
        // The machine is too slow to show it: the key may have been taken anew.
        return;
    }
    let mut number = 0;
    eventually("the time of both is over", async || {
        number += 1;
        push(&store, [unique("mail", &format!("clock {number}"), "order 18", within)]).await;
        stored(&store, "mail").await == (2, 0)
    })
    .await;
    push(&store, [unique("mail", "second", "order 17", within)]).await;
    assert_eq!(stored(&store, "mail").await, (3, 0), "the time counts from when the first was stored first");
}

pub async fn handlers_do_not_share_unique_keys(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail", "stock"]).await;
    let pushed = [unique("mail", "event", "order 17", LONG), unique("stock", "event", "order 17", LONG)];
    push(&store, pushed.clone()).await;
    assert_eq!(ids(&claim(&store, &["mail", "stock"], LONG).await), new_ids(&pushed));
}

pub async fn the_first_of_one_push_stands_for_its_key(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    let first = unique("mail", "first", "order 17", LONG);
    let second = unique("mail", "second", "order 17", LONG);
    let other = unique("mail", "third", "order 18", LONG);
    push(&store, [first.clone(), second, other.clone()]).await;
    assert_eq!(ids(&claim(&store, &["mail"], LONG).await), new_ids(&[first, other]));
}

pub async fn a_unique_key_outlives_its_first_delivery(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    for (value, outcome) in [("order 17", Outcome::Completed), ("order 18", dead(1))] {
        push(&store, [unique("mail", &format!("first of {value}"), value, LONG)]).await;
        let claimed = claim_one(&store, "mail", LONG).await;
        assert!(settle(&store, claimed.lease, outcome.clone()).await);
        push(&store, [unique("mail", &format!("second of {value}"), value, LONG)]).await;
        assert_eq!(
            stored(&store, "mail").await,
            (0, 0),
            "the time counts from storing, whatever came of it: {outcome:?}"
        );
    }
}

pub async fn a_push_that_fails_takes_no_unique_key(site: &impl Site) {
    let store = site.open().await;
    let old = record(&store, &["mail"]).await;
    let generation = record(&store, &["stock"]).await;
    let bad = [unique("mail", "first", "order 17", LONG), delivery("a handler that nobody recorded", "stray")];
    let failed = store.queue.push(Push::of(generation, bad)).await;
    assert!(failed.is_err(), "{failed:?}");
    let moved = [unique("mail", "first", "order 17", LONG)];
    let moved = store.queue.push(Push::of(old, moved)).await.answered();
    assert_eq!(moved, Pushed::CatalogueMoved);
    let second = unique("mail", "second", "order 17", LONG);
    push(&store, [second.clone()]).await;
    assert_eq!(claim_one(&store, "mail", LONG).await.lease.delivery, second.id);
}

pub async fn one_of_concurrent_deliveries_of_a_key_is_stored(site: &impl Site) {
    let stores = [site.open().await, site.open().await];
    record(&stores[0], &["mail"]).await;
    let generation = generation(&stores[0]).await;
    let mut pushing = JoinSet::new();
    for number in 0..40 {
        let store = stores[number % 2].clone();
        let of_both =
            ["order 17", "order 18"].map(|value| unique("mail", &format!("{number} of {value}"), value, LONG));
        let push = Push { once: number % 3 == 0, ..Push::of(generation, of_both) };
        pushing.spawn(async move { store.queue.push(push).await.answered() });
    }
    assert!(pushing.join_all().await.iter().all(Pushed::is_stored));
    let claimed = claim(&stores[0], &["mail"], LONG).await;
    let of = |value: &str| claimed.iter().filter(|claimed| claimed.payload.ends_with(value.as_bytes())).count();
    assert_eq!((of("order 17"), of("order 18"), claimed.len()), (1, 1, 2));
}
