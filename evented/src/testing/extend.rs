//! The promises of `extend`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use crate::{
    store::{Outcome, Push},
    time,
};

use super::{
    Site,
    kit::{
        Answered, DEADLINE, KEEPER, LONG, SHORT, claim, claim_one, claim_one_when_due, deliveries, delivery,
        eventually, generation, has_passed, lose, nothing_is_due, push, record, settle,
    },
};

pub async fn a_renewed_lease_does_not_end(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    push(&store, deliveries("mail", 2)).await;
    // Long enough to be renewed in time on a busy machine.
    let claimed = claim(&store, &["mail"], Duration::from_secs(3)).await;
    let (kept, left) = (claimed[0].lease, claimed[1].lease);
    assert_eq!(store.queue.extend(KEEPER, &[kept], LONG).await.answered(), [true]);
    let ended = claim_one_when_due(&other, "mail", LONG).await;
    assert_eq!(ended.lease.delivery, left.delivery, "both leases began together, and only one was renewed");
    assert!(claim(&other, &["mail"], LONG).await.is_empty());
    assert!(settle(&store, kept, Outcome::Completed).await);

    // It ends `lease` after it was renewed, which may be sooner.
    let began = time::now();
    let sooner = Duration::from_millis(500);
    assert_eq!(store.queue.extend(KEEPER, &[ended.lease], sooner).await.answered(), [true]);
    claim_one_when_due(&store, "mail", LONG).await;
    has_passed(sooner, began);
}

pub async fn an_extend_answers_for_each_lease(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    push(&store, [delivery("mail", "order 17")]).await;
    let (lost, taken) = lose(&store, &other, "mail").await;
    push(&store, deliveries("mail", 3)).await;
    let claimed = claim(&store, &["mail"], LONG).await;
    let [first, done, third] = [0, 1, 2].map(|at| claimed[at].lease);
    assert!(settle(&store, done, Outcome::Completed).await);
    let held = store.queue.extend(KEEPER, &[first, lost, done, third], LONG).await.answered();
    assert_eq!(held, [true, false, false, true]);
    assert_eq!(
        other.queue.extend(KEEPER, &[taken.lease, first], LONG).await.answered(),
        [true, true],
        "through any process"
    );
}

pub async fn a_lost_lease_stays_lost(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    push(&store, [delivery("mail", "order 17")]).await;
    let (lost, taken) = lose(&store, &other, "mail").await;
    // Were it renewed for so short a time, the delivery would be due again.
    assert_eq!(store.queue.extend(KEEPER, &[lost], SHORT).await.answered(), [false]);
    nothing_is_due(&store, "mail").await;
    assert_eq!(store.queue.extend(KEEPER, &[lost], LONG).await.answered(), [false]);
    assert!(settle(&other, taken.lease, Outcome::Released).await);
    assert_eq!(
        store.queue.extend(KEEPER, &[lost], LONG).await.answered(),
        [false],
        "also when nobody else holds it any more"
    );
    claim_one(&other, "mail", LONG).await;
}

pub async fn a_lost_lease_stays_lost_beside_the_lease_that_replaced_it(site: &impl Site) {
    // A process that was suspended may claim again what it lost, and then renews both leases in one call.
    let store = site.open().await;
    record(&store, &["mail"]).await;
    push(&store, [delivery("mail", "order 17")]).await;
    let (lost, taken) = lose(&store, &store, "mail").await;
    assert_eq!(store.queue.extend(KEEPER, &[lost, taken.lease], LONG).await.answered(), [false, true]);
}

pub async fn leases_are_renewed_while_other_writes_wait_for_their_turn(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail", "stock"]).await;
    push(&store, [delivery("mail", "order 17")]).await;
    let claimed = claim_one(&store, "mail", LONG).await;
    let generation = generation(&store).await;
    let (stop, pushed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut writing = JoinSet::new();
    // Eight writers that never pause: there is always a write that waits for its turn.
    for writer in 0..8 {
        let (store, stop, pushed) = (store.clone(), stop.clone(), pushed.clone());
        writing.spawn(async move {
            for number in 0_u64.. {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let deliveries = [delivery("stock", &format!("event {number} of {writer}"))];
                store.queue.push(Push::of(generation, deliveries)).await.answered();
                pushed.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    for _ in 0..5 {
        let before = pushed.load(Ordering::SeqCst);
        let held = time::within(DEADLINE, store.queue.extend(KEEPER, &[claimed.lease], LONG)).await;
        assert_eq!(held.expect("it is renewed while others write").answered(), [true]);
        eventually("the others write", async || pushed.load(Ordering::SeqCst) > before + 20).await;
    }
    stop.store(true, Ordering::SeqCst);
    writing.join_all().await;
}
