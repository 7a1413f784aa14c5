//! The promises of order keys.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;

use crate::{
    id::Key,
    store::{Claimed, Letters, NewDelivery, Outcome, Push, Pushed, Settlement, Store},
    time,
};

use super::{
    Site,
    kit::{
        Answered, DEADLINE, LONG, SHORT, claim, claim_one, claim_one_when_due, claims, count, dead, delayed, delivery,
        exchange, has_passed, push, record, requeue, retry, settle, wanting,
    },
};

/// The delivery of this number of a customer's.
fn of(customer: &str, number: usize) -> NewDelivery {
    ordered("mail", customer, number)
}

fn ordered(handler: &str, customer: &str, number: usize) -> NewDelivery {
    let order = Some(Key::derive(handler, customer));
    NewDelivery { order, ..delivery(handler, &format!("{customer} {number}")) }
}

/// The customer and the number that were pushed.
fn read(claimed: &Claimed) -> (String, usize) {
    let payload = String::from_utf8_lossy(&claimed.payload);
    let (customer, number) = payload.split_once(' ').expect("the payload is a customer and a number");
    (customer.to_owned(), number.parse().expect("a number"))
}

/// Claims the one delivery that is due, and says its number; its lease is held.
async fn next(store: &Store) -> (usize, Claimed) {
    let claimed = claim_one(store, "mail", LONG).await;
    (read(&claimed).1, claimed)
}

/// Claims and completes the one delivery that is due, for each of these numbers.
async fn go_on(store: &Store, numbers: &[usize]) {
    for expected in numbers {
        let (number, claimed) = next(store).await;
        assert_eq!(number, *expected);
        assert!(settle(store, claimed.lease, Outcome::Completed).await);
    }
    assert!(claim(store, &["mail"], LONG).await.is_empty());
}

async fn nobody_is_due(store: &Store) {
    let claimed = claim(store, &["mail"], LONG).await;
    assert!(claimed.is_empty(), "the others of the key wait: {claimed:?}");
}

pub async fn deliveries_of_a_key_are_claimed_one_after_the_other(site: &impl Site) {
    let stores = [site.open().await, site.open().await];
    record(&stores[0], &["mail"]).await;
    push(&stores[0], [of("ada", 0), of("ada", 1), of("ada", 2)]).await;
    push(&stores[1], [of("ada", 3)]).await;
    push(&stores[0], [of("ada", 4), of("ada", 5)]).await;
    for expected in 0..6 {
        let (number, claimed) = next(&stores[expected % 2]).await;
        assert_eq!(number, expected, "in the order in which they were stored");
        assert!(claimed.lease.ordered, "a lease says that others wait for it");
        nobody_is_due(&stores[0]).await;
        nobody_is_due(&stores[1]).await;
        assert!(settle(&stores[0], claimed.lease, Outcome::Completed).await);
    }
    assert_eq!(count(&stores[1], "mail").await.done, 6);
    // The key is as new.
    push(&stores[1], [of("ada", 6)]).await;
    go_on(&stores[0], &[6]).await;
}

pub async fn what_waits_for_its_turn_is_not_due(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    push(&store, [of("ada", 0), of("ada", 1), of("ada", 2)]).await;
    let (_, _running) = next(&store).await;
    // A worker would ask without end for what it cannot get.
    let asked = claims(&store, vec![wanting(10, &["mail"])], LONG).await;
    assert!(asked.deliveries.is_empty());
    assert!(asked.next_due.is_none_or(|next| next > LONG / 2), "the end of the lease, or none: {asked:?}");
    let counted = count(&store, "mail").await;
    assert_eq!((counted.waiting, counted.running, counted.due_for), (2, 1, None));
}

pub async fn a_retry_holds_its_key(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    push(&store, [of("ada", 0), of("ada", 1)]).await;
    let delay = Duration::from_millis(400);
    for failed in 0..2 {
        let claimed = claim_one_when_due(&store, "mail", LONG).await;
        assert_eq!((read(&claimed).1, claimed.failed), (0, failed));
        let began = time::now();
        let error = "the mail server is away".to_owned();
        assert!(settle(&store, claimed.lease, Outcome::Retry { delay, error }).await);
        let claimed = claim_one_when_due(&other, "mail", LONG).await;
        assert_eq!(read(&claimed).1, 0, "the second waits for the first, however long that takes");
        has_passed(delay, began);
        assert!(settle(&store, claimed.lease, Outcome::Released).await);
    }
    go_on(&other, &[0, 1]).await;
}

pub async fn a_delayed_head_holds_its_key(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    let delay = Duration::from_millis(400);
    let began = time::now();
    push(&store, [delayed(delay, of("ada", 0)), of("ada", 1)]).await;
    let claimed = claim_one_when_due(&store, "mail", LONG).await;
    has_passed(delay, began);
    assert_eq!(read(&claimed).1, 0, "stored first, run first");
    assert!(settle(&store, claimed.lease, Outcome::Completed).await);
    go_on(&store, &[1]).await;
}

pub async fn a_delivery_whose_turn_comes_waits_for_its_own_time(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    let delay = Duration::from_millis(400);
    let began = time::now();
    push(&store, [of("ada", 0), delayed(delay, of("ada", 1)), of("ada", 2)]).await;
    let (number, claimed) = next(&store).await;
    assert_eq!(number, 0);
    assert!(settle(&store, claimed.lease, Outcome::Completed).await);
    let claimed = claim_one_when_due(&store, "mail", LONG).await;
    has_passed(delay, began);
    assert_eq!(read(&claimed).1, 1);
    assert!(settle(&store, claimed.lease, Outcome::Completed).await);
    go_on(&store, &[2]).await;
}

pub async fn a_dead_letter_releases_its_key(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    push(&store, [of("ada", 0), of("ada", 1), of("ada", 2)]).await;
    for expected in 0..2 {
        let (number, claimed) = next(&store).await;
        assert_eq!(number, expected);
        assert!(settle(&store, claimed.lease, dead(1)).await);
    }
    go_on(&store, &[2]).await;
}

pub async fn a_released_delivery_keeps_its_place(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    push(&store, [of("ada", 0), of("ada", 1)]).await;
    for store in [&store, &other, &store] {
        let (number, claimed) = next(store).await;
        assert_eq!((number, claimed.failed), (0, 0));
        assert!(settle(store, claimed.lease, Outcome::Released).await);
    }
    go_on(&store, &[0, 1]).await;
}

pub async fn a_lost_lease_keeps_its_place(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    push(&store, [of("ada", 0), of("ada", 1)]).await;
    let lost = claim_one(&store, "mail", SHORT).await;
    let held = claim_one_when_due(&other, "mail", LONG).await;
    assert_eq!(read(&held).1, 0);
    // The late settlement of the first worker does not let the next one go.
    assert!(!settle(&store, lost.lease, Outcome::Completed).await);
    nobody_is_due(&store).await;
    assert!(settle(&other, held.lease, Outcome::Completed).await);
    go_on(&store, &[1]).await;
}

pub async fn a_delivery_of_a_key_that_is_pushed_again_keeps_its_place(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    push(&store, [of("ada", 0), of("ada", 1), of("ada", 2)]).await;
    push(&store, [of("ada", 0), of("ada", 1)]).await;
    let (number, running) = next(&store).await;
    assert_eq!(number, 0);
    push(&store, [of("ada", 1), of("ada", 0)]).await;
    nobody_is_due(&store).await;
    assert!(settle(&store, running.lease, Outcome::Completed).await);
    go_on(&store, &[1, 2]).await;
}

pub async fn different_keys_run_side_by_side(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail", "stock"]).await;
    let mut pushed: Vec<_> = (0..2).flat_map(|number| [of("ada", number), of("bob", number)]).collect();
    // Two handlers do not share a key, and what has none waits for nobody.
    pushed.extend([ordered("stock", "ada", 0), ordered("stock", "ada", 1)]);
    pushed.extend([delivery("mail", "nobody 0"), delivery("mail", "nobody 1")]);
    push(&store, pushed).await;
    let claimed = claim(&store, &["mail", "stock"], LONG).await;
    let heads: HashSet<_> =
        claimed.iter().map(|claimed| (claimed.handler.to_string(), read(claimed), claimed.lease.ordered)).collect();
    let head =
        |handler: &str, customer: &str, number, ordered| (handler.to_owned(), (customer.to_owned(), number), ordered);
    let expected = [
        head("mail", "ada", 0, true),
        head("mail", "bob", 0, true),
        head("stock", "ada", 0, true),
        head("mail", "nobody", 0, false),
        head("mail", "nobody", 1, false),
    ];
    assert_eq!((heads, claimed.len()), (HashSet::from(expected), 5));
    // The end of one is nothing to the others.
    let bob = claimed.iter().find(|claimed| read(claimed).0 == "bob").expect("it was claimed");
    assert!(settle(&store, bob.lease, Outcome::Completed).await);
    let (number, claimed) = next(&store).await;
    assert_eq!((read(&claimed).0.as_str(), number), ("bob", 1));
}

pub async fn a_requeued_dead_letter_goes_behind_those_that_wait(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    push(&store, (0..4).map(|number| of("ada", number)).collect::<Vec<_>>()).await;
    let (number, claimed) = next(&store).await;
    assert_eq!(number, 0);
    assert!(settle(&store, claimed.lease, dead(1)).await);
    let (number, running) = next(&store).await;
    assert_eq!(number, 1);
    let letter = Letters::One(claimed.lease.delivery);
    assert_eq!(requeue(&other, letter.clone()).await, 1);
    nobody_is_due(&store).await;
    push(&other, [of("ada", 4)]).await;
    assert!(settle(&store, running.lease, Outcome::Completed).await);
    go_on(&store, &[2, 3, 0, 4]).await;

    // Where none waits, it is due at once.
    push(&store, [of("ada", 5)]).await;
    let (_, claimed) = next(&store).await;
    assert!(settle(&store, claimed.lease, dead(1)).await);
    assert_eq!(requeue(&other, Letters::Of("mail".to_owned())).await, 1);
    go_on(&store, &[5]).await;
}

/// What the workers of a test have of each customer.
#[derive(Default)]
struct Progress {
    running: bool,
    next: usize,
    released: HashSet<usize>,
}

pub async fn order_holds_while_processes_push_and_settle(site: &impl Site) {
    const CUSTOMERS: usize = 4;
    const EACH: usize = 40;
    let stores = [site.open().await, site.open().await];
    let generation = record(&stores[0], &["mail"]).await;
    let mut pushing = JoinSet::new();
    for customer in 0..CUSTOMERS {
        let stores = stores.clone();
        pushing.spawn(async move {
            for number in 0..EACH {
                let deliveries = [of(&format!("customer-{customer}"), number)];
                let push = Push { once: number % 2 == 0, ..Push::of(generation, deliveries) };
                assert_eq!(
                    stores[(customer + number) % 2].queue.push(push).await.answered(),
                    Pushed::Stored(Vec::new())
                );
            }
        });
    }
    let progress = Arc::new(Mutex::new(HashMap::<String, Progress>::new()));
    let done = Arc::new(AtomicUsize::new(0));
    for worker in 0..4 {
        let (store, progress, done) = (stores[worker % 2].clone(), progress.clone(), done.clone());
        pushing.spawn(async move {
            let mut ended = Vec::new();
            while done.load(Ordering::SeqCst) < CUSTOMERS * EACH {
                let settlements = std::mem::take(&mut ended);
                let exchanged = exchange(&store, settlements, vec![wanting(3, &["mail"])]).await;
                assert!(exchanged.held.iter().all(|held| *held));
                let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
                for claimed in exchanged.claims.deliveries {
                    let (customer, number) = read(&claimed);
                    let customer = progress.entry(customer).or_default();
                    assert!(!customer.running, "two of one key run side by side: {claimed:?}");
                    assert_eq!(number, customer.next, "out of order: {claimed:?}");
                    // As soon as the store hears of the end, another worker may have the next one.
                    let outcome = if number % 5 == 1 && claimed.failed == 0 {
                        retry()
                    } else if number % 7 == 3 && customer.released.insert(number) {
                        Outcome::Released
                    } else {
                        customer.next += 1;
                        done.fetch_add(1, Ordering::SeqCst);
                        if number % 11 == 5 { dead(1) } else { Outcome::Completed }
                    };
                    ended.push(Settlement { lease: claimed.lease, outcome });
                }
            }
            store.queue.exchange(ended.into(), None).await.answered();
        });
    }
    let ended = time::within(3 * DEADLINE, pushing.join_all()).await;
    let ended_of = done.load(Ordering::SeqCst);
    assert!(ended.is_some(), "{ended_of} of {} have ended: the others are stranded", CUSTOMERS * EACH);
    let counted = count(&stores[0], "mail").await;
    assert_eq!((counted.waiting, counted.running, counted.done + counted.dead), (0, 0, (CUSTOMERS * EACH) as u64));
}

pub async fn no_delivery_is_stranded_between_a_push_and_a_settlement_of_its_key(site: &impl Site) {
    const EACH: usize = 60;
    let stores = [site.open().await, site.open().await];
    let handlers = [0, 1, 2].map(|customer| format!("mail-{customer}"));
    let generation = record(&stores[0], &handlers.each_ref().map(String::as_str)).await;
    let mut running = JoinSet::new();
    for (customer, handler) in handlers.into_iter().enumerate() {
        let done = Arc::new(AtomicUsize::new(0));
        let pushed = Arc::new(AtomicUsize::new(0));
        // Few wait at any time, so that again and again the last one ends while another is stored.
        for (pusher, store) in stores.iter().enumerate() {
            let (store, done, pushed) = (store.clone(), done.clone(), pushed.clone());
            let handler = handler.clone();
            running.spawn(async move {
                for number in 0..EACH / 2 {
                    while pushed.load(Ordering::SeqCst) > done.load(Ordering::SeqCst) + 1 {
                        time::sleep(Duration::from_millis(1)).await;
                    }
                    pushed.fetch_add(1, Ordering::SeqCst);
                    let deliveries = [ordered(&handler, "ada", 2 * number + pusher)];
                    let push = Push::of(generation, deliveries);
                    assert!(store.queue.push(push).await.answered().is_stored());
                }
            });
        }
        let store = stores[customer % 2].clone();
        running.spawn(async move {
            while done.load(Ordering::SeqCst) < EACH {
                for claimed in claim(&store, &[&handler], LONG).await {
                    assert!(settle(&store, claimed.lease, Outcome::Completed).await);
                    done.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
    }
    let ended = time::within(3 * DEADLINE, running.join_all()).await;
    assert!(ended.is_some(), "a delivery of a key waits for one that has ended");
}
