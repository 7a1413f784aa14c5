//! The promises of `pause`.

use crate::store::{ClaimQueue, Outcome, Store};

use super::{
    Site,
    kit::{
        Answered, KEEPER, LONG, admin_of, claim, claim_one, claims, deliveries, delivery, push, record, settle, stored,
        wanting,
    },
    wait::{ends_at_once, quiet},
};

/// Pauses the queue that the claims of the kit are of, or resumes it.
async fn pause(store: &Store, paused: bool) {
    admin_of(store).pause("default".to_owned(), paused).await.answered();
}

pub async fn a_paused_queue_is_not_claimed_in_any_process(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    push(&store, deliveries("mail", 3)).await;
    pause(&store, true).await;
    // Who pauses what is paused changes nothing.
    pause(&other, true).await;
    for store in [&store, &other, &site.open().await] {
        assert!(claim(store, &["mail"], LONG).await.is_empty());
    }
    push(&other, [delivery("mail", "stored while it is paused")]).await;
    assert!(claim(&other, &["mail"], LONG).await.is_empty());
    assert_eq!(stored(&store, "mail").await, (4, 0), "all of it waits");
}

pub async fn a_resumed_queue_is_claimed_again(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    push(&store, deliveries("mail", 3)).await;
    // What was never paused can be resumed.
    pause(&store, false).await;
    for _ in 0..2 {
        pause(&store, true).await;
        assert!(claim(&other, &["mail"], LONG).await.is_empty());
        pause(&other, false).await;
        let claimed = claims(&store, vec![wanting(1, &["mail"])], LONG).await.deliveries;
        assert_eq!(claimed.len(), 1);
        assert_eq!(claimed[0].failed, 0, "a pause costs nothing");
    }
}

pub async fn resuming_ends_a_wait(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    push(&store, [delivery("mail", "order 17")]).await;
    pause(&store, true).await;
    let seen = quiet(&store).await;
    pause(&other, false).await;
    ends_at_once(&store, seen).await;
    claim_one(&store, "mail", LONG).await;
}

pub async fn a_queue_stays_paused_while_no_process_is_there(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    push(&store, [delivery("mail", "order 17")]).await;
    pause(&store, true).await;
    store.about.close();
    drop(store);
    let store = site.open().await;
    assert_eq!(admin_of(&store).stats().await.answered().paused, ["default"]);
    assert!(claim(&store, &["mail"], LONG).await.is_empty());
    pause(&store, false).await;
    claim_one(&store, "mail", LONG).await;
}

pub async fn other_queues_go_on_while_one_is_paused(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail", "stock"]).await;
    push(&store, [delivery("mail", "order 17"), delivery("stock", "order 17")]).await;
    pause(&store, true).await;
    // The queue is what the claim says: a handler may have moved to another one since it was recorded.
    let of_other = ClaimQueue { name: "other".into(), ..wanting(10, &["stock"]) };
    let claimed = claims(&store, vec![wanting(10, &["mail"]), of_other], LONG).await.deliveries;
    assert_eq!(claimed.len(), 1);
    assert_eq!(&*claimed[0].handler, "stock");
}

pub async fn what_runs_when_its_queue_is_paused_goes_on(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    push(&store, deliveries("mail", 2)).await;
    let claimed = claim(&store, &["mail"], LONG).await;
    pause(&other, true).await;
    let leases = [claimed[0].lease, claimed[1].lease];
    assert_eq!(store.queue.extend(KEEPER, &leases, LONG).await.answered(), [true, true]);
    assert!(settle(&store, leases[0], Outcome::Completed).await);
    assert!(settle(&store, leases[1], Outcome::Released).await);
    assert!(claim(&store, &["mail"], LONG).await.is_empty(), "what was given back waits with the others");
}

pub async fn the_paused_queues_are_told(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    assert!(admin_of(&store).stats().await.answered().paused.is_empty());
    for queue in ["mail", "a queue that nobody has", "mail"] {
        admin_of(&store).pause(queue.to_owned(), true).await.answered();
    }
    assert_eq!(
        admin_of(&other).stats().await.answered().paused,
        ["a queue that nobody has", "mail"],
        "sorted, each once"
    );
    admin_of(&store).pause("mail".to_owned(), false).await.answered();
    assert_eq!(admin_of(&other).stats().await.answered().paused, ["a queue that nobody has"]);
}
