//! The promises of `transact`: a handler's writes and its settlement are one commit.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, task::JoinSet};

use crate::{
    id::Key,
    store::{Fence, Lease, NewDelivery, Outcome, Store, TxCall, TxEnd},
    time,
};

use super::{
    End, OutboxSite,
    kit::{
        Answered, DEADLINE, KEEPER, LONG, SHORT, claim, claim_one, count, deliveries, delivery, lose, nothing_is_due,
        outbox_of, push, record, retry, settle, stored,
    },
};

/// Two processes with the outbox open, and one leased delivery.
async fn leased(site: &impl OutboxSite) -> ([Store; 2], Lease) {
    let stores = [site.open_outbox().await, site.open_outbox().await];
    record(&stores[0], &["book"]).await;
    push(&stores[0], [delivery("book", "payment 17")]).await;
    let lease = claim_one(&stores[0], "book", LONG).await.lease;
    (stores, lease)
}

pub async fn what_a_handler_wrote_and_its_settlement_are_one_commit(site: &impl OutboxSite) {
    let ([store, other], lease) = leased(site).await;
    let written = Arc::new(Notify::new());
    // While the handler runs, nobody sees anything of it.
    tokio::select! {
        end = outbox_of(&store).transact(Fence::Lease(&lease), site.write(1, End::Hanging(written.clone()))) => panic!("it hangs: {end:?}"),
        () = async {
            written.notified().await;
            assert!(site.ledger().await.is_empty());
            assert_eq!(stored(&other, "book").await, (0, 1));
        } => {}
    }
    let end = outbox_of(&store).transact(Fence::Lease(&lease), site.write(2, End::Well)).await.answered();
    assert!(matches!(end, TxEnd::Committed), "{end:?}");
    assert_eq!(site.ledger().await, [2]);
    let counted = count(&other, "book").await;
    assert_eq!((counted.waiting, counted.running, counted.done), (0, 0, 1));
    assert!(!settle(&store, lease, Outcome::Completed).await, "it is settled");
    nothing_is_due(&other, "book").await;
}

pub async fn a_committed_transaction_lets_the_next_of_its_order_key_go(site: &impl OutboxSite) {
    let stores = [site.open_outbox().await, site.open_outbox().await];
    record(&stores[0], &["book"]).await;
    let order = Some(Key::derive("book", "ada"));
    push(
        &stores[0],
        deliveries("book", 3).into_iter().map(|delivery| NewDelivery { order, ..delivery }).collect::<Vec<_>>(),
    )
    .await;
    for entry in 0..3_u8 {
        let store = &stores[usize::from(entry % 2)];
        let lease = claim_one(store, "book", LONG).await.lease;
        let end = outbox_of(store).transact(Fence::Lease(&lease), site.write(100, End::Failing)).await.answered();
        assert!(matches!(end, TxEnd::Failed(_)), "{end:?}");
        assert!(claim(store, &["book"], LONG).await.is_empty(), "it is not settled: the next one waits");
        let end = outbox_of(store).transact(Fence::Lease(&lease), site.write(entry.into(), End::Well)).await.answered();
        assert!(matches!(end, TxEnd::Committed), "{end:?}");
    }
    assert_eq!(site.ledger().await, [0, 1, 2]);
}

/// For how long a handler waits for what others do: where one write transaction locks the whole store, they wait for it.
const PATIENCE: Duration = Duration::from_millis(500);

/// A handler's part that has written, says so, and waits for others.
fn beside(call: TxCall<'static>) -> (TxCall<'static>, Arc<Notify>, Arc<Notify>) {
    let (written, done) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (says, waits) = (Arc::clone(&written), Arc::clone(&done));
    let call: TxCall<'static> = Box::new(move |tx| {
        Box::pin(async move {
            let ended = call(tx).await;
            says.notify_one();
            let _in_time = time::within(PATIENCE, waits.notified()).await;
            ended
        })
    });
    (call, written, done)
}

pub async fn what_is_pushed_while_a_transaction_runs_goes_on_after_it(site: &impl OutboxSite) {
    let [store, other] = [site.open_outbox().await, site.open_outbox().await];
    record(&store, &["book"]).await;
    let order = Some(Key::derive("book", "ada"));
    let [first, second] = ["payment 1", "payment 2"].map(|key| NewDelivery { order, ..delivery("book", key) });
    push(&store, [first]).await;
    let lease = claim_one(&store, "book", LONG).await.lease;
    let next = second.event_id;
    let (call, written, done) = beside(site.write(1, End::Well));
    let (end, ()) = tokio::join!(outbox_of(&store).transact(Fence::Lease(&lease), call), async {
        written.notified().await;
        push(&other, [second]).await;
        done.notify_one();
    });
    let end = end.answered();
    assert!(matches!(end, TxEnd::Committed), "{end:?}");
    assert_eq!(claim_one(&other, "book", LONG).await.event_id, next);
}

pub async fn a_lease_that_is_lost_while_a_transaction_runs_commits_nothing(site: &impl OutboxSite) {
    let [store, other] = [site.open_outbox().await, site.open_outbox().await];
    record(&store, &["book"]).await;
    push(&store, [delivery("book", "payment 17")]).await;
    let lease = claim_one(&store, "book", SHORT).await.lease;
    let (call, written, done) = beside(site.write(1, End::Well));
    let (end, taken) = tokio::join!(outbox_of(&store).transact(Fence::Lease(&lease), call), async {
        written.notified().await;
        let began = time::now();
        let mut taken = Vec::new();
        while taken.is_empty() && began.elapsed() < PATIENCE {
            time::sleep(SHORT / 5).await;
            taken = claim(&other, &["book"], LONG).await;
        }
        done.notify_one();
        taken
    });
    let end = end.answered();
    // Either of the two has it.
    let Some(taken) = taken.first() else {
        assert!(matches!(end, TxEnd::Committed), "{end:?}");
        return assert_eq!(site.ledger().await, [1]);
    };
    assert!(matches!(end, TxEnd::Lost), "{end:?}");
    assert!(site.ledger().await.is_empty());
    assert!(settle(&other, taken.lease, Outcome::Completed).await);
}

pub async fn a_handlers_failure_rolls_back_and_keeps_the_lease(site: &impl OutboxSite) {
    let ([store, other], lease) = leased(site).await;
    let end = outbox_of(&store).transact(Fence::Lease(&lease), site.write(1, End::Failing)).await.answered();
    let TxEnd::Failed(error) = end else { panic!("the handler failed: {end:?}") };
    assert_eq!(error.to_string(), "the ledger is closed");
    assert!(site.ledger().await.is_empty());
    assert_eq!(stored(&other, "book").await, (0, 1));
    assert_eq!(store.queue.extend(KEEPER, &[lease], LONG).await.answered(), [true]);
    assert!(settle(&store, lease, retry()).await, "the worker says what becomes of it");
    let again = claim_one(&store, "book", LONG).await;
    assert_eq!(again.failed, 1);
    let end = outbox_of(&store).transact(Fence::Lease(&again.lease), site.write(2, End::Well)).await.answered();
    assert!(matches!(end, TxEnd::Committed), "{end:?}");
    assert_eq!(site.ledger().await, [2]);
}

pub async fn a_lost_lease_commits_nothing(site: &impl OutboxSite) {
    let stores = [site.open_outbox().await, site.open_outbox().await];
    record(&stores[0], &["book"]).await;
    push(&stores[0], [delivery("book", "payment 17")]).await;
    let (lost, taken) = lose(&stores[0], &stores[1], "book").await;
    let end = outbox_of(&stores[0]).transact(Fence::Lease(&lost), site.write(1, End::Well)).await.answered();
    assert!(matches!(end, TxEnd::Lost), "{end:?}");
    assert!(site.ledger().await.is_empty());
    assert_eq!(stored(&stores[0], "book").await, (0, 1));
    let end = outbox_of(&stores[1]).transact(Fence::Lease(&taken.lease), site.write(2, End::Well)).await.answered();
    assert!(matches!(end, TxEnd::Committed), "{end:?}");
    assert_eq!(site.ledger().await, [2]);
}

pub async fn a_settled_delivery_commits_nothing(site: &impl OutboxSite) {
    let ([store, _], lease) = leased(site).await;
    assert!(settle(&store, lease, Outcome::Completed).await);
    let end = outbox_of(&store).transact(Fence::Lease(&lease), site.write(1, End::Well)).await.answered();
    assert!(matches!(end, TxEnd::Lost), "{end:?}");
    assert!(site.ledger().await.is_empty());
    assert_eq!(count(&store, "book").await.done, 1);
}

async fn ends_by_itself(site: &impl OutboxSite, end: End) {
    let ([store, other], lease) = leased(site).await;
    let end = outbox_of(&store).transact(Fence::Lease(&lease), site.write(1, end)).await.answered();
    assert!(matches!(end, TxEnd::Failed(_)), "{end:?}");
    assert_eq!(stored(&other, "book").await, (0, 1));
    assert_eq!(count(&other, "book").await.done, 0);
    assert!(settle(&store, lease, retry()).await, "the worker says what becomes of it");
    let again = claim_one(&other, "book", LONG).await;
    let end = outbox_of(&other).transact(Fence::Lease(&again.lease), site.write(100, End::Well)).await.answered();
    assert!(matches!(end, TxEnd::Committed), "{end:?}");
}

pub async fn a_handler_that_rolls_back_by_itself_settles_nothing(site: &impl OutboxSite) {
    ends_by_itself(site, End::RollingBack).await;
    assert_eq!(site.ledger().await, [100]);
}

pub async fn a_handler_that_rolls_back_by_itself_and_fails_has_failed(site: &impl OutboxSite) {
    let ([store, other], lease) = leased(site).await;
    let end = outbox_of(&store).transact(Fence::Lease(&lease), site.write(1, End::RollingBackAndFailing)).await;
    // An error of the store would cost no attempt, and so the delivery would be tried again for ever.
    assert!(matches!(&end, Ok(TxEnd::Failed(error)) if error.to_string() == "the ledger is closed"), "{end:?}");
    assert!(site.ledger().await.is_empty());
    assert_eq!(stored(&other, "book").await, (0, 1));
    assert!(settle(&store, lease, retry()).await);
}

pub async fn a_handler_that_commits_by_itself_settles_nothing(site: &impl OutboxSite) {
    ends_by_itself(site, End::Committing).await;
    // What it committed behind our back stands, which is its own doing.
    assert_eq!(site.ledger().await, [1, 100]);
}

pub async fn a_handler_that_ends_its_transaction_itself_spoils_no_connection(site: &impl OutboxSite) {
    let ([store, _], lease) = leased(site).await;
    // More often than a pool has connections.
    for entry in 1..=20 {
        let by_itself = if entry % 2 == 0 { End::Committing } else { End::RollingBack };
        let end = outbox_of(&store).transact(Fence::Lease(&lease), site.write(entry, by_itself)).await;
        assert!(matches!(end, Ok(TxEnd::Failed(_))), "the handler's failure and not the store's, at {entry}: {end:?}");
    }
    let end = outbox_of(&store).transact(Fence::Lease(&lease), site.write(100, End::Well)).await;
    assert!(matches!(end, Ok(TxEnd::Committed)), "{end:?}");
}

pub async fn a_handler_that_is_dropped_leaves_nothing(site: &impl OutboxSite) {
    let ([store, other], lease) = leased(site).await;
    for entry in 1..=20 {
        let written = Arc::new(Notify::new());
        tokio::select! {
            end = outbox_of(&store).transact(Fence::Lease(&lease), site.write(entry, End::Hanging(written.clone()))) => panic!("it hangs: {end:?}"),
            () = written.notified() => {}
        }
        assert_eq!(stored(&other, "book").await, (0, 1));
    }
    // Neither the delivery nor the store is stuck.
    assert!(settle(&store, lease, Outcome::Released).await);
    let lease = claim_one(&other, "book", LONG).await.lease;
    let end = outbox_of(&other).transact(Fence::Lease(&lease), site.write(100, End::Well)).await.answered();
    assert!(matches!(end, TxEnd::Committed), "{end:?}");
    assert_eq!(site.ledger().await, [100]);
}

pub async fn a_handler_that_ends_its_transaction_and_is_dropped_spoils_no_connection(site: &impl OutboxSite) {
    let ([store, _], lease) = leased(site).await;
    // As a handler that runs into its timeout after that. More often than a pool has connections.
    for entry in 1..=20 {
        let ended = Arc::new(Notify::new());
        let hanging = site.write(entry, End::RollingBackAndHanging(ended.clone()));
        tokio::select! {
            end = outbox_of(&store).transact(Fence::Lease(&lease), hanging) => panic!("it hangs, at {entry}: {end:?}"),
            () = ended.notified() => {}
        }
    }
    let end = outbox_of(&store).transact(Fence::Lease(&lease), site.write(100, End::Well)).await;
    assert!(matches!(end, Ok(TxEnd::Committed)), "{end:?}");
    assert_eq!(site.ledger().await, [100]);
}

pub async fn concurrent_transactions_are_all_committed(site: &impl OutboxSite) {
    let stores = [site.open_outbox().await, site.open_outbox().await];
    record(&stores[0], &["book"]).await;
    push(&stores[0], deliveries("book", 12)).await;
    let claimed = claim(&stores[0], &["book"], LONG).await;
    assert_eq!(claimed.len(), 12);
    let mut running = JoinSet::new();
    for (entry, claimed) in (0..).zip(claimed) {
        let (store, call) = (stores[usize::from(entry % 2 == 0)].clone(), site.write(entry, End::Well));
        running.spawn(async move { outbox_of(&store).transact(Fence::Lease(&claimed.lease), call).await.answered() });
    }
    let ends = time::within(DEADLINE, running.join_all()).await.expect("they come one after another");
    assert!(ends.iter().all(|end| matches!(end, TxEnd::Committed)), "{ends:?}");
    assert_eq!(site.ledger().await, (0..12).collect::<Vec<_>>());
    assert_eq!(count(&stores[0], "book").await.done, 12);
}
