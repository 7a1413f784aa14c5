//! The promises of `exchange`: settling and claiming in one call, and what a claim takes of each handler.

use std::{collections::HashMap, time::Duration};

use crate::{
    store::{ClaimQueue, Claims, Outcome, Settlement, Store},
    terms::Priority,
    time,
};

use super::{
    Site,
    kit::{
        Answered, DEADLINE, LONG, asking, claim, claim_one, claims, count, deliveries, delivery, exchange, ids, lose,
        push, record, retry, stored, wanting,
    },
};

pub async fn an_exchange_settles_and_claims(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    push(&store, deliveries("mail", 3)).await;
    let mut running = claims(&store, vec![wanting(1, &["mail"])], LONG).await.deliveries;
    for done in 1..=3_u64 {
        let settled = running.pop().expect("one runs");
        let completed = Settlement { lease: settled.lease, outcome: Outcome::Completed };
        let exchanged = exchange(&store, [completed], vec![wanting(1, &["mail"])]).await;
        assert_eq!(exchanged.held, [true]);
        running = exchanged.claims.deliveries;
        assert_eq!(running.len(), usize::from(done < 3), "the next one, where there is one");
        let counted = count(&other, "mail").await;
        assert_eq!((counted.done, counted.running), (done, running.len() as u64));
    }
}

pub async fn an_exchange_whose_settlement_is_late_claims_all_the_same(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    push(&store, [delivery("mail", "order 17")]).await;
    let (late, _held) = lose(&store, &other, "mail").await;
    push(&store, [delivery("mail", "order 18")]).await;
    let late = Settlement { lease: late, outcome: Outcome::Completed };
    let exchanged = exchange(&store, [late], vec![wanting(10, &["mail"])]).await;
    assert_eq!(exchanged.held, [false]);
    assert_eq!(ids(&exchanged.claims.deliveries), [delivery("mail", "order 18").id]);
}

pub async fn a_claim_never_takes_what_its_exchange_settles(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    push(&store, [delivery("mail", "order 17")]).await;
    for (number, outcome) in [Outcome::Released, retry(), Outcome::Released].into_iter().enumerate() {
        let settled = claim_one(&store, "mail", LONG).await.lease;
        // Due at the same moment, and before it.
        let beside = delivery("mail", &format!("beside {number}"));
        push(&store, [beside.clone()]).await;
        let settlement = Settlement { lease: settled, outcome: outcome.clone() };
        let exchanged = exchange(&store, [settlement], vec![wanting(10, &["mail"])]).await;
        assert_eq!(exchanged.held, [true]);
        let claimed = exchanged.claims.deliveries;
        assert_eq!(ids(&claimed), [beside.id], "what was just given back is another claim's: {outcome:?}");
        let done = Settlement { lease: claimed[0].lease, outcome: Outcome::Completed };
        assert_eq!(exchange(&store, [done], Vec::new()).await.held, [true]);
        assert_eq!(stored(&store, "mail").await, (1, 0), "{outcome:?}");
    }
}

pub async fn an_exchange_of_nothing_does_nothing(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    push(&store, [delivery("mail", "order 17")]).await;
    let nothing = store.queue.exchange([].into(), None).await.answered();
    assert!(nothing.held.is_empty() && nothing.claims.deliveries.is_empty() && nothing.claims.next_due.is_none());
    // A claim that names no queue, and one of a queue without handlers.
    for queues in [Vec::new(), vec![wanting(10, &[])]] {
        let nothing = exchange(&store, [], queues).await;
        assert!(nothing.held.is_empty() && nothing.claims.deliveries.is_empty(), "{nothing:?}");
    }
    assert_eq!(stored(&store, "mail").await, (1, 0));
    assert_eq!(claim(&store, &["mail"], LONG).await.len(), 1);
}

/// Claims of one queue; answers how many came of each handler.
async fn taken(store: &Store, queue: ClaimQueue) -> HashMap<String, usize> {
    let Claims { deliveries, .. } = claims(store, vec![queue], LONG).await;
    let mut taken = HashMap::new();
    for claimed in deliveries {
        *taken.entry(claimed.handler.to_string()).or_default() += 1;
    }
    taken
}

fn of<const N: usize>(expected: [(&str, usize); N]) -> HashMap<String, usize> {
    expected.into_iter().map(|(handler, count)| (handler.to_owned(), count)).collect()
}

pub async fn a_claim_takes_no_more_of_a_handler_than_it_wants(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail", "stock", "metrics"]).await;
    for handler in ["mail", "stock", "metrics"] {
        push(&store, deliveries(handler, 10)).await;
    }
    let asked = |mail, stock, wanted| ClaimQueue {
        handlers: vec![asking("mail", Priority::Normal, mail), asking("stock", Priority::Normal, stock)],
        ..wanting(wanted, &[])
    };
    assert_eq!(taken(&store, asked(3, usize::MAX, 9)).await, of([("mail", 3), ("stock", 6)]));
    assert_eq!(taken(&store, asked(2, 0, 9)).await, of([("mail", 2)]), "a handler without room gets none");
    assert_eq!(taken(&store, asked(usize::MAX, usize::MAX, 3)).await.values().sum::<usize>(), 3, "the queue's room");
    assert_eq!(stored(&store, "metrics").await, (10, 0));
}

/// The handlers `high`, `normal` and `low`, each of that priority.
fn by_priority(wanted: usize) -> ClaimQueue {
    let handlers = [Priority::High, Priority::Normal, Priority::Low];
    let handlers = handlers.map(|priority| asking(priority.name(), priority, usize::MAX));
    ClaimQueue { handlers: handlers.into(), ..wanting(wanted, &[]) }
}

pub async fn a_higher_priority_is_claimed_first(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["low", "normal", "high"]).await;
    // Also where the lower one was stored first.
    for handler in ["low", "normal", "high"] {
        push(&store, deliveries(handler, 5)).await;
    }
    assert_eq!(taken(&store, by_priority(3)).await, of([("high", 3)]));
    assert_eq!(taken(&store, by_priority(1)).await, of([("high", 1)]));
}

pub async fn a_lower_priority_gets_what_a_higher_one_leaves(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["low", "normal", "high"]).await;
    for handler in ["low", "normal", "high"] {
        push(&store, deliveries(handler, 5)).await;
    }
    assert_eq!(taken(&store, by_priority(7)).await, of([("high", 5), ("normal", 2)]));
    assert_eq!(taken(&store, by_priority(7)).await, of([("normal", 3), ("low", 4)]));
    // What is delayed, and what a handler has no room for, is nothing that a lower one waits for.
    let later = crate::store::NewDelivery { delay: LONG, ..delivery("high", "later") };
    push(&store, [later, delivery("normal", "order 17")]).await;
    let mut without_room = by_priority(7);
    without_room.handlers[1].wanted = 0;
    assert_eq!(taken(&store, without_room).await, of([("low", 1)]));
}

pub async fn within_one_priority_a_claim_takes_evenly(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail", "stock", "metrics", "high"]).await;
    push(&store, deliveries("mail", 50)).await;
    push(&store, deliveries("stock", 50)).await;
    push(&store, deliveries("metrics", 2)).await;
    push(&store, deliveries("high", 4)).await;
    let mut queue = wanting(16, &["mail", "stock", "metrics"]);
    queue.handlers.insert(0, asking("high", Priority::High, usize::MAX));
    assert_eq!(taken(&store, queue).await, of([("high", 4), ("mail", 5), ("stock", 5), ("metrics", 2)]));
}

pub async fn a_backlog_of_20_000_does_not_hold_up_a_first_delivery(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail", "stock"]).await;
    for part in deliveries("mail", 20_000).chunks(1_000) {
        push(&store, part).await;
    }
    push(&store, [delivery("stock", "order 17")]).await;
    let both = claims(&other, vec![wanting(10, &["mail", "stock"])], LONG);
    let claimed = time::within(DEADLINE, both).await.expect("a claim takes no longer for what it does not take");
    let of_stock = claimed.deliveries.iter().filter(|claimed| &*claimed.handler == "stock").count();
    assert_eq!((claimed.deliveries.len(), of_stock), (10, 1));
    assert_eq!(claimed.next_due, Some(Duration::ZERO), "more is due");
}
