//! The promises of `claim`.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use crate::{
    origin::Origin,
    retry::{Backoff, Policy},
    store::{Blame, Claimed, NewDelivery, Outcome},
    time,
};

use super::{
    Site,
    kit::{
        DEADLINE, LONG, VERSION, claim, claim_one, claim_one_when_due, claims, delayed, deliveries, delivery,
        eventually, has_passed, ids, new_ids, nothing_is_due, push, record, settle, stored, wanting,
    },
};

pub async fn a_delivery_is_claimed_by_one_claim_alone(site: &impl Site) {
    const COUNT: usize = 300;
    let stores = [site.open().await, site.open().await];
    record(&stores[0], &["mail"]).await;
    let pushed = deliveries("mail", COUNT);
    push(&stores[0], pushed.clone()).await;
    let found = Arc::new(AtomicUsize::new(0));
    let mut claiming = JoinSet::new();
    for number in 0..8 {
        let (store, found) = (stores[number % 2].clone(), found.clone());
        claiming.spawn(async move {
            let mut mine = Vec::new();
            while found.load(Ordering::SeqCst) < COUNT {
                let claimed = claims(&store, vec![wanting(7, &["mail"])], LONG).await.deliveries;
                found.fetch_add(claimed.len(), Ordering::SeqCst);
                mine.extend(claimed);
            }
            mine
        });
    }
    let claimed = time::within(DEADLINE, claiming.join_all()).await.expect("all is claimed in the end").concat();
    assert_eq!(ids(&claimed), new_ids(&pushed), "each delivery once");
}

pub async fn the_policy_and_payload_travel(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail", "stock"]).await;
    let emitted_unix_ms = Some(1_700_000_000_123);
    let fixed = Policy { backoff: Backoff::Fixed(Duration::from_millis(1_500)), ..Policy::DEFAULT };
    let doubling = Policy {
        attempts_max: 9,
        backoff: Backoff::Exponential { first: Duration::from_secs(2), max: Duration::from_hours(2) },
        timeout: Duration::from_millis(30_001),
    };
    let payload: Arc<[u8]> = (0..=u8::MAX).cycle().take(100_000).collect();
    let mail = delivery("mail", "order 17");
    let mail = NewDelivery { emitted_unix_ms, policy: doubling, payload: payload.into(), ..mail };
    let stock = delivery("stock", "order 18");
    let stock = NewDelivery { origin: Origin::of(mail.event_id), policy: fixed, payload: (*b"").into(), ..stock };
    push(&store, [mail.clone(), stock.clone()]).await;

    let claimed = claim_one(&other, "mail", LONG).await;
    same(&claimed, &mail);
    assert_eq!(claimed.emitted_unix_ms, 1_700_000_000_123);
    assert_eq!((claimed.failed, claimed.blame), (0, Blame::default()));
    let claimed = claim_one(&other, "stock", LONG).await;
    same(&claimed, &stock);
    // An hour: a store's clock is its own, and yet no clock of another century.
    assert!(claimed.emitted_unix_ms.abs_diff(time::unix_ms()) < 3_600_000, "emitted now, by the store's clock");
}

fn same(claimed: &Claimed, pushed: &NewDelivery) {
    assert_eq!(claimed.lease.delivery, pushed.id);
    assert_eq!(claimed.event_id, pushed.event_id);
    assert_eq!(claimed.handler, pushed.handler);
    assert_eq!(claimed.origin, pushed.origin);
    assert_eq!(claimed.version, pushed.version);
    assert_eq!(claimed.policy, pushed.policy);
    assert!(claimed.payload == *pushed.payload, "the payload is what was pushed");
}

pub async fn only_named_handlers_are_claimed(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail", "stock", "metrics"]).await;
    push(&store, [delivery("mail", "order 17"), delivery("stock", "order 17"), delivery("metrics", "order 17")]).await;
    let claimed = claim(&store, &["stock", "mail", "a handler that nobody recorded"], LONG).await;
    let handlers: HashSet<_> = claimed.iter().map(|claimed| &*claimed.handler).collect();
    assert_eq!(handlers, HashSet::from(["stock", "mail"]));
    assert_eq!(stored(&store, "metrics").await, (1, 0));
    assert!(claim(&store, &[], LONG).await.is_empty());
}

pub async fn a_newer_payload_version_is_left_to_a_newer_worker(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail", "stock"]).await;
    let newer = NewDelivery { version: VERSION + 1, ..delivery("mail", "order 17") };
    let of_stock = NewDelivery { version: VERSION + 1, ..delivery("stock", "order 17") };
    let current = delivery("mail", "order 18");
    push(&store, [newer.clone(), of_stock.clone(), current.clone()]).await;
    let old_worker = claim(&store, &["mail", "stock"], LONG).await;
    assert_eq!(ids(&old_worker), [current.id], "the newer payloads do not stand in the way of the current one");

    // Each handler reads versions of its own.
    let mut newer_worker = wanting(10, &["mail", "stock"]);
    newer_worker.handlers[0].version = VERSION + 1;
    let claimed = claims(&store, vec![newer_worker], LONG).await.deliveries;
    assert_eq!(ids(&claimed), [newer.id]);
    assert_eq!((claimed[0].version, claimed[0].failed), (VERSION + 1, 0));
}

pub async fn a_claim_takes_no_more_than_wanted(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail", "stock", "metrics"]).await;
    for handler in ["mail", "stock", "metrics"] {
        push(&store, deliveries(handler, 10)).await;
    }
    let queues = || vec![wanting(5, &["mail", "stock"]), wanting(3, &["metrics"])];
    let claimed = claims(&store, queues(), LONG).await.deliveries;
    let of_metrics = claimed.iter().filter(|claimed| &*claimed.handler == "metrics").count();
    assert_eq!((claimed.len() - of_metrics, of_metrics), (5, 3), "each queue as many as there is room for");
    let none = claims(&store, vec![wanting(0, &["mail"]), wanting(1, &["metrics"])], LONG).await.deliveries;
    assert_eq!(none.len(), 1);
    assert_eq!(&*none[0].handler, "metrics");
}

pub async fn the_oldest_of_a_handler_comes_first(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail", "stock"]).await;
    let pushed = deliveries("mail", 6);
    for delivery in pushed.iter().cloned() {
        push(&store, [delivery]).await;
        push(&store, [self::delivery("stock", "order 17")]).await;
    }
    let mut claimed = Vec::new();
    for wanted in [3, 5] {
        let queues = vec![wanting(wanted, &["stock", "mail"])];
        claimed.extend(claims(&store, queues, LONG).await.deliveries);
    }
    let of_mail = claimed.iter().filter(|claimed| &*claimed.handler == "mail");
    let order: Vec<_> = of_mail.map(|claimed| claimed.lease.delivery).collect();
    assert_eq!(order, pushed.iter().map(|delivery| delivery.id).collect::<Vec<_>>());
}

pub async fn a_handler_with_a_backlog_does_not_starve_its_neighbours(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail", "stock", "metrics"]).await;
    push(&store, deliveries("mail", 100)).await;
    push(&store, deliveries("stock", 1)).await;
    push(&store, deliveries("metrics", 1)).await;
    let queues = vec![wanting(10, &["mail", "stock", "metrics"])];
    let claimed = claims(&store, queues, LONG).await.deliveries;
    let count = |handler| claimed.iter().filter(|claimed| &*claimed.handler == handler).count();
    assert_eq!((count("stock"), count("metrics"), count("mail")), (1, 1, 8));
}

pub async fn a_delivery_is_due_again_when_its_lease_ends(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    push(&store, [delivery("mail", "order 17")]).await;
    let lease = Duration::from_millis(500);
    let began = time::now();
    let first = claim_one(&store, "mail", lease).await;
    let second = claim_one_when_due(&other, "mail", LONG).await;
    has_passed(lease, began);
    assert_eq!(second.lease.delivery, first.lease.delivery);
    assert_eq!((second.failed, second.blame), (0, Blame::default()), "a lost lease is no attempt");
    assert_ne!(second.lease.token, first.lease.token);
    nothing_is_due(&store, "mail").await;
}

pub async fn next_due_tells_when_to_look_again(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail", "stock"]).await;
    let next = async |handler| {
        let claims = claims(&store, vec![wanting(10, &[handler])], LONG).await;
        assert!(claims.deliveries.is_empty());
        claims.next_due
    };
    let (hour, minute) = (Duration::from_hours(1), Duration::from_mins(1));
    assert_eq!(next("mail").await, None, "none is stored");
    push(&store, [delayed(2 * hour, delivery("mail", "order 17")), delayed(hour, delivery("mail", "order 18"))]).await;
    push(&store, [delayed(minute, delivery("stock", "order 17"))]).await;
    let told = next("mail").await.expect("one is stored");
    assert!(told <= hour && told + minute > hour, "the sooner of the asked handler's, not {told:?}");

    // The end of a lease of somebody else is a time to look, too.
    push(&store, [delivery("mail", "order 19")]).await;
    let claimed = claim_one(&store, "mail", 2 * minute).await;
    let told = next("mail").await.expect("one is leased");
    assert!(told <= 2 * minute && told > minute, "the end of the lease, not {told:?}");
    assert!(settle(&store, claimed.lease, Outcome::Completed).await);

    // And looking then finds it.
    push(&store, [delayed(Duration::from_millis(300), delivery("mail", "order 20"))]).await;
    eventually("the delivery is found by looking when told", async || {
        let claims = claims(&store, vec![wanting(10, &["mail"])], LONG).await;
        if let Some(next_due) = claims.next_due.filter(|_| claims.deliveries.is_empty()) {
            assert!(next_due <= Duration::from_millis(300));
            time::sleep(next_due).await;
        }
        !claims.deliveries.is_empty()
    })
    .await;
}

pub async fn next_due_is_told_while_more_is_due_than_was_wanted(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    push(&store, deliveries("mail", 3)).await;
    let claims = claims(&store, vec![wanting(2, &["mail"])], LONG).await;
    assert_eq!(claims.deliveries.len(), 2);
    assert_eq!(claims.next_due, Some(Duration::ZERO), "one more is due, and none would mean that none is stored");
}
