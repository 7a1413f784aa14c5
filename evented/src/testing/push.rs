//! The promises of `push`.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::{
    id::Key,
    retry::{Backoff, Policy},
    store::{NewDelivery, Outcome, Push, Pushed, StoreTime, UniqueKey},
    time,
};

use super::{
    Site,
    kit::{
        Answered, LONG, claim, claim_one, claim_one_when_due, dead, delayed, deliveries, delivery, eventually,
        generation, has_passed, ids, new_ids, nothing_is_due, push, push_once, record, retire, settle, stored,
    },
};

pub async fn all_of_a_push_is_stored(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    // More than a statement takes, and not a round number.
    let pushed = deliveries("mail", 221);
    push(&store, pushed.clone()).await;
    assert_eq!(ids(&claim(&store, &["mail"], LONG).await), new_ids(&pushed));
}

/// A push of which one delivery cannot be stored: no process has recorded its handler.
fn bad_push(generation: u64) -> Push {
    let mut bad = deliveries("mail", 100);
    bad.push(delivery("a handler that nobody recorded", "stray"));
    Push::of(generation, bad).once()
}

pub async fn all_or_nothing_of_a_push_is_stored(site: &impl Site) {
    let store = site.open().await;
    let generation = record(&store, &["mail"]).await;
    let bad = store.queue.push(bad_push(generation)).await;
    assert!(bad.is_err(), "a delivery of an unknown handler is refused: {bad:?}");
    assert_eq!(stored(&store, "mail").await, (0, 0));
    // Nor is its event remembered: the push can be repeated without what was bad about it.
    push_once(&store, deliveries("mail", 100)).await;
    assert_eq!(stored(&store, "mail").await, (100, 0));
}

pub async fn a_push_that_fails_fails_alone(site: &impl Site) {
    let store = site.open().await;
    let generation = record(&store, &["mail", "stock"]).await;
    let mut pushing = JoinSet::new();
    let good = deliveries("stock", 30);
    for (number, delivery) in good.iter().cloned().enumerate() {
        let store = store.clone();
        pushing.spawn(async move {
            let good = Push::of(generation, [delivery]);
            let push = if number % 10 == 5 { store.queue.push(bad_push(generation)).await.is_err() } else { true };
            push && store.queue.push(good).await.is_ok_and(|pushed| pushed.is_stored())
        });
    }
    assert!(pushing.join_all().await.iter().all(|as_expected| *as_expected));
    assert_eq!(stored(&store, "mail").await, (0, 0));
    assert_eq!(ids(&claim(&store, &["stock"], LONG).await), new_ids(&good));
}

pub async fn a_delivery_that_is_there_already_is_left_as_it_is(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    let first = delivery("mail", "order 17");
    push(&store, [first.clone()]).await;
    let again = NewDelivery {
        payload: (*b"other").into(),
        version: 0,
        delay: LONG,
        emitted_unix_ms: Some(1),
        policy: Policy { attempts_max: 1, backoff: Backoff::Fixed(LONG), timeout: LONG },
        ..first.clone()
    };
    push(&store, [again, delivery("mail", "order 18")]).await;
    let claimed = claim(&store, &["mail"], LONG).await;
    assert_eq!(claimed.len(), 2, "the delivery beside the repeated one is stored");
    let claimed = claimed.iter().find(|claimed| claimed.lease.delivery == first.id).expect("it is still due");
    assert_eq!(claimed.payload, *first.payload);
    assert_eq!(claimed.policy, first.policy);
    assert_eq!(claimed.version, first.version);
    assert_ne!(claimed.emitted_unix_ms, 1);
}

pub async fn a_leased_delivery_that_is_pushed_again_stays_leased(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    push(&store, [delivery("mail", "order 17")]).await;
    let claimed = claim_one(&store, "mail", LONG).await;
    push(&store, [delivery("mail", "order 17")]).await;
    nothing_is_due(&store, "mail").await;
    assert!(settle(&store, claimed.lease, Outcome::Completed).await);
}

pub async fn a_delivery_pushed_once_is_not_stored_again_after_it_is_settled(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail", "stock"]).await;
    // One event for two handlers, and one for one: the promise is about events, and both of the first are stored.
    let pushed = [delivery("mail", "order 17"), delivery("stock", "order 17"), delivery("mail", "order 18")];
    push_once(&store, pushed.clone()).await;
    let claimed = claim(&store, &["mail", "stock"], LONG).await;
    assert_eq!(ids(&claimed), new_ids(&pushed));
    for claimed in &claimed {
        let outcome = if &*claimed.handler == "stock" { dead(1) } else { Outcome::Completed };
        assert!(settle(&store, claimed.lease, outcome).await);
    }
    push_once(&store, pushed).await;
    assert_eq!((stored(&store, "mail").await, stored(&store, "stock").await), ((0, 0), (0, 0)));
    // By another process as well, and a new event beside the old ones is stored.
    let second = site.open().await;
    push_once(&second, [delivery("mail", "order 17"), delivery("mail", "order 19")]).await;
    assert_eq!(claim_one(&store, "mail", LONG).await.lease.delivery, delivery("mail", "order 19").id);
}

pub async fn what_is_finished_is_remembered_for_a_while(site: &impl Site) {
    let store = site.open().await;
    let generation = record(&store, &["mail"]).await;
    let pushed = [delivery("mail", "order 17"), delivery("mail", "order 18")];
    push_once(&store, pushed.clone()).await;
    for claimed in claim(&store, &["mail"], LONG).await {
        assert!(settle(&store, claimed.lease, Outcome::Completed).await);
    }
    // A push carries it, also one of nothing else.
    let finished = |ids: Vec<_>| Push { finished: ids.into(), ..Push::of(generation, []) };
    for ids in [vec![pushed[1].id], Vec::new(), pushed.each_ref().map(|pushed| pushed.id).to_vec()] {
        assert!(store.queue.push(finished(ids)).await.answered().is_stored());
    }
    // A first try that comes after its repetition stores nothing.
    push_once(&store, pushed).await;
    assert_eq!(stored(&store, "mail").await, (0, 0));
}

pub async fn a_push_after_its_end_stores_nothing(site: &impl Site) {
    let store = site.open().await;
    let generation = record(&store, &["mail", "stock"]).await;
    let now = store.queue.clock().await.answered();
    let until =
        |until, deliveries: Vec<NewDelivery>| Push { until: Some(until), ..Push::of(generation, deliveries).once() };
    let late = vec![delivery("mail", "order 17"), delivery("stock", "order 17")];
    let past = StoreTime(now.0 - 1);
    assert_eq!(store.queue.push(until(past, late.clone())).await.answered(), Pushed::TooLate);
    assert_eq!((stored(&store, "mail").await, stored(&store, "stock").await), ((0, 0), (0, 0)));
    // Nor is it remembered: in time, it is stored. One that is late spoils none beside it.
    let mut pushing = JoinSet::new();
    for number in 0..20 {
        let store = store.clone();
        let deliveries = vec![delivery("mail", &format!("order {number} of many"))];
        let push = until(if number % 2 == 0 { past } else { now.after(LONG) }, deliveries);
        pushing.spawn(async move { (number % 2 == 0, store.queue.push(push).await.answered()) });
    }
    for (is_late, answer) in pushing.join_all().await {
        assert_eq!(answer, if is_late { Pushed::TooLate } else { Pushed::Stored(Vec::new()) });
    }
    assert_eq!(stored(&store, "mail").await, (10, 0));
    assert!(store.queue.push(until(now.after(LONG), late)).await.answered().is_stored());
    assert_eq!((stored(&store, "mail").await, stored(&store, "stock").await), ((11, 0), (1, 0)));
}

pub async fn the_clock_goes_on_as_time_does(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    let (began, first) = (time::now(), store.queue.clock().await.answered());
    let delay = Duration::from_millis(200);
    eventually("the clock has gone on", async || other.queue.clock().await.answered() >= first.after(delay)).await;
    has_passed(delay, began);
    let passed = i64::try_from(began.elapsed().as_millis()).expect("a test is short");
    assert!(store.queue.clock().await.answered().0 - first.0 <= passed + 1_000, "as fast as ours");
}

pub async fn a_push_planned_from_an_old_catalogue_stores_nothing(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    let old = record(&store, &["mail"]).await;
    record(&other, &["stock"]).await;
    let planned = |generation| Push::of(generation, deliveries("mail", 3));
    assert_eq!(store.queue.push(planned(old)).await.answered(), Pushed::CatalogueMoved);
    assert_eq!(stored(&store, "mail").await, (0, 0));

    let old = generation(&store).await;
    assert!(retire(&other, "mail").await);
    assert_eq!(store.queue.push(planned(old)).await.answered(), Pushed::CatalogueMoved);
    record(&other, &["mail"]).await;
    assert_eq!(stored(&store, "mail").await, (0, 0));

    let now = generation(&store).await;
    assert!(store.queue.push(planned(now)).await.answered().is_stored());
    assert_eq!(stored(&store, "mail").await, (3, 0));
}

pub async fn a_push_that_stored_nothing_is_not_remembered(site: &impl Site) {
    let store = site.open().await;
    let old = record(&store, &["mail"]).await;
    record(&store, &["stock"]).await;
    let pushed = delivery("mail", "order 17");
    let moved = Push::of(old, [pushed.clone()]).once();
    assert_eq!(store.queue.push(moved).await.answered(), Pushed::CatalogueMoved);
    push_once(&store, [pushed.clone()]).await;
    assert_eq!(claim_one(&store, "mail", LONG).await.lease.delivery, pushed.id);
}

pub async fn concurrent_pushes_are_all_stored(site: &impl Site) {
    let stores = [site.open().await, site.open().await];
    let generation = record(&stores[0], &["mail"]).await;
    let pushed = deliveries("mail", 150);
    let mut pushing = JoinSet::new();
    for (number, part) in pushed.chunks(3).enumerate() {
        let store = stores[number % 2].clone();
        let push = Push { once: number % 3 == 0, ..Push::of(generation, part) };
        pushing.spawn(async move { store.queue.push(push).await.answered() });
    }
    let answers = pushing.join_all().await;
    assert_eq!(answers, vec![Pushed::Stored(Vec::new()); 50]);
    assert_eq!(ids(&claim(&stores[1], &["mail"], LONG).await), new_ids(&pushed));
}

pub async fn a_delayed_delivery_is_not_claimed_before_its_time(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    let delay = Duration::from_millis(500);
    let began = time::now();
    push(&store, [delayed(delay, delivery("mail", "order 17"))]).await;
    let claimed = claim_one_when_due(&store, "mail", LONG).await;
    has_passed(delay, began);
    assert!(claimed.failed == 0, "waiting is no attempt: {claimed:?}");
}

pub async fn a_push_answers_which_deliveries_it_did_not_store(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    let generation = record(&store, &["mail", "stock"]).await;
    let of = |keys: &[&str]| -> Vec<NewDelivery> {
        keys.iter().flat_map(|key| ["mail", "stock"].map(|handler| delivery(handler, key))).collect()
    };
    let not_stored = async |push: Push| match other.queue.push(push).await.answered() {
        Pushed::Stored(not_stored) => not_stored,
        refused => panic!("{refused:?}"),
    };
    assert_eq!(not_stored(Push::of(generation, of(&["a", "b"]))).await, []);
    let ids_of = |keys: &[&str]| of(keys).iter().map(|delivery| delivery.id).collect::<Vec<_>>();
    assert_eq!(not_stored(Push::of(generation, of(&["c", "a"]))).await, ids_of(&["a"]));
    assert_eq!(not_stored(Push::of(generation, of(&["d", "e"])).once()).await, []);
    for claimed in claim(&store, &["mail", "stock"], LONG).await {
        assert!(settle(&store, claimed.lease, Outcome::Completed).await);
    }
    let again = not_stored(Push::of(generation, of(&["e", "f", "d"])).once()).await;
    assert_eq!(again, ids_of(&["e", "d"]), "also what is done by now");
    let unique = |key: &str| {
        let key_of_all = Key::derive("mail", "of all");
        let unique = Some(UniqueKey { key: key_of_all, within: Duration::from_hours(1) });
        NewDelivery { unique, ..delivery("mail", key) }
    };
    assert_eq!(not_stored(Push::of(generation, [unique("first")])).await, []);
    let second = unique("second");
    assert_eq!(not_stored(Push::of(generation, [second.clone()])).await, [second.id]);
}
