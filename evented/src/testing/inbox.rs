//! The promises of `transact_once`: a delivery that is stored elsewhere writes here once.

use std::sync::Arc;

use tokio::{sync::Notify, task::JoinSet};

use crate::{
    id::DeliveryId,
    store::{Fence, Retention, Store, TxEnd},
    time,
};

use super::{
    End, OutboxSite,
    kit::{Answered, DEADLINE, LONG, admin_of, delivery, outbox_of},
};

/// Two processes with the outbox open, and a delivery of another store.
async fn two(site: &impl OutboxSite) -> ([Store; 2], DeliveryId) {
    ([site.open_outbox().await, site.open_outbox().await], delivery("book", "payment 17").id)
}

async fn writes(store: &Store, site: &impl OutboxSite, delivery: DeliveryId, entry: i64) {
    let end = outbox_of(store).transact(Fence::Once(delivery), site.write(entry, End::Well)).await.answered();
    assert!(matches!(end, TxEnd::Committed), "{end:?}");
}

pub async fn a_delivery_that_ran_to_its_end_is_not_run_again(site: &impl OutboxSite) {
    let ([store, other], delivery) = two(site).await;
    writes(&store, site, delivery, 1).await;
    // Its worker died before it could settle: the delivery comes again, here and in another process.
    writes(&store, site, delivery, 2).await;
    writes(&other, site, delivery, 3).await;
    writes(&site.open_outbox().await, site, delivery, 4).await;
    assert_eq!(site.ledger().await, [1]);
    writes(&other, site, self::delivery("book", "payment 18").id, 5).await;
    writes(&other, site, self::delivery("mail", "payment 17").id, 6).await;
    assert_eq!(site.ledger().await, [1, 5, 6], "each delivery for itself");
}

pub async fn an_attempt_that_fails_is_not_remembered(site: &impl OutboxSite) {
    let ([store, other], delivery) = two(site).await;
    for end in [End::Failing, End::RollingBack, End::RollingBackAndFailing] {
        let ended = outbox_of(&store).transact(Fence::Once(delivery), site.write(1, end.clone())).await.answered();
        assert!(matches!(ended, TxEnd::Failed(_)), "{end:?}: {ended:?}");
        assert!(site.ledger().await.is_empty(), "{end:?}");
    }
    writes(&other, site, delivery, 2).await;
    assert_eq!(site.ledger().await, [2]);
}

pub async fn an_attempt_that_is_dropped_is_not_remembered(site: &impl OutboxSite) {
    let ([store, other], delivery) = two(site).await;
    for entry in 1..=20 {
        let written = Arc::new(Notify::new());
        let hanging = site.write(entry, End::Hanging(written.clone()));
        tokio::select! {
            end = outbox_of(&store).transact(Fence::Once(delivery), hanging) => panic!("it hangs: {end:?}"),
            () = written.notified() => {}
        }
    }
    time::within(DEADLINE, writes(&other, site, delivery, 100)).await.expect("nobody holds it any more");
    assert_eq!(site.ledger().await, [100]);
}

pub async fn of_concurrent_runs_of_one_delivery_one_writes(site: &impl OutboxSite) {
    let (stores, delivery) = two(site).await;
    let mut running = JoinSet::new();
    for entry in 0..10 {
        let (store, call) = (stores[usize::from(entry % 2 == 0)].clone(), site.write(entry, End::Well));
        running.spawn(async move { outbox_of(&store).transact(Fence::Once(delivery), call).await.answered() });
    }
    let ends = time::within(DEADLINE, running.join_all()).await.expect("one waits for the other");
    assert!(ends.iter().all(|end| matches!(end, TxEnd::Committed)), "{ends:?}");
    assert_eq!(site.ledger().await.len(), 1);
}

pub async fn what_is_settled_elsewhere_is_remembered_for_a_while(site: &impl OutboxSite) {
    let ([store, other], delivery) = two(site).await;
    writes(&store, site, delivery, 1).await;
    outbox_of(&store).settled(vec![delivery]).await.answered();
    outbox_of(&store).settled(Vec::new()).await.answered();
    outbox_of(&other).settled(vec![delivery, self::delivery("book", "one that never ran here").id]).await.answered();
    let retention = Retention { age: LONG, count: 10 };
    while admin_of(&other).sweep(retention).await.answered().more {}
    // A process that stood still in the middle of an earlier attempt goes on.
    writes(&other, site, delivery, 2).await;
    assert_eq!(site.ledger().await, [1]);
}
