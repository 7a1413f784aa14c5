//! Order keys, unique keys, versions, priorities, paused queues, dead letters: as they are on SQLite.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use evented::{
    Priority,
    store::{Blame, Letters, NewDelivery, Outcome, Retention, Settlement},
};
use evented_tests::{DEADLINE, eventually};
use tokio::{task::JoinSet, time::timeout};

use super::{
    LONG, claim, claim_of, completed, count, delivery, exchange, open, ordered, payloads, push, record, settle, shared,
    unique,
};

fn retry(delay: Duration) -> Outcome {
    Outcome::Retry { delay, error: "the mail server is away".to_owned() }
}

fn dead() -> Outcome {
    Outcome::Dead { failed: 3, error: "no such address".to_owned() }
}

#[tokio::test]
async fn deliveries_of_an_order_key_are_claimed_one_after_the_other() {
    let Some(url) = shared() else { return };
    let store = open(&url).await;
    record(&store, &["mail"]).await;
    let of = |key: &str, order: &str| ordered("mail", key, order);
    push(&store, vec![of("a1", "a"), of("a2", "a"), of("b1", "b"), of("a3", "a"), delivery("mail", "free")]).await;
    let first = claim(&store, 10, "mail").await;
    assert_eq!(payloads(&first), ["a1", "b1", "free"]);
    assert_eq!(first.iter().map(|claimed| claimed.lease.ordered).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!((count(&store, "mail").await.waiting, count(&store, "mail").await.running), (2, 3));

    // A retry keeps its place, and so does one that is given back.
    assert!(settle(&store, first[0].lease, retry(Duration::ZERO)).await);
    let again = claim(&store, 10, "mail").await;
    assert_eq!(payloads(&again), ["a1"]);
    assert!(settle(&store, again[0].lease, Outcome::Released).await);
    let again = claim(&store, 10, "mail").await;
    assert_eq!(payloads(&again), ["a1"]);

    // The next is claimed in the exchange that settles the one before it; a dead letter lets the next go, too.
    let (held, claims) = exchange(&store, completed(&again), 10, "mail").await;
    assert_eq!((held, payloads(&claims.deliveries)), (vec![true], vec!["a2".to_owned()]));
    let dies = vec![Settlement { lease: claims.deliveries[0].lease, outcome: dead() }];
    let (_, claims) = exchange(&store, dies, 10, "mail").await;
    assert_eq!(payloads(&claims.deliveries), ["a3"]);

    // A dead letter comes back behind those that wait.
    push(&store, vec![of("a4", "a")]).await;
    assert_eq!(crate::store::requeue(&store, Letters::Of("mail".to_owned())).await, 1);
    let (_, claims) = exchange(&store, completed(&claims.deliveries), 10, "mail").await;
    assert_eq!(payloads(&claims.deliveries), ["a4"]);
    let (_, claims) = exchange(&store, completed(&claims.deliveries), 10, "mail").await;
    assert_eq!(payloads(&claims.deliveries), ["a2"]);
    assert!(settle(&store, claims.deliveries[0].lease, Outcome::Completed).await);
    assert!(settle(&store, first[1].lease, Outcome::Completed).await);
    assert!(settle(&store, first[2].lease, Outcome::Completed).await);
    assert_eq!(count(&store, "mail").await.waiting, 0);
}

#[tokio::test]
async fn the_next_of_an_order_key_keeps_its_own_time() {
    let Some(url) = shared() else { return };
    let store = open(&url).await;
    record(&store, &["mail"]).await;
    let later = NewDelivery { delay: LONG, ..ordered("mail", "second", "a") };
    push(&store, vec![ordered("mail", "first", "a"), later]).await;
    let first = claim(&store, 10, "mail").await;
    let (_, claims) = exchange(&store, completed(&first), 10, "mail").await;
    assert!(claims.deliveries.is_empty());
    let next_due = claims.next_due.expect("one waits for its time");
    assert!(next_due <= LONG && next_due + Duration::from_secs(30) > LONG, "{next_due:?}");
}

/// What several stores saw of one order key.
#[derive(Default)]
struct Order {
    running: bool,
    seen: Vec<usize>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_holds_while_several_processes_push_and_settle() {
    const KEYS: usize = 7;
    const EACH: usize = 120;
    let Some(url) = shared() else { return };
    let stores = [open(&url).await, open(&url).await, open(&url).await];
    record(&stores[0], &["mail"]).await;
    let orders: Arc<Vec<Mutex<Order>>> = Arc::new((0..KEYS).map(|_| Mutex::default()).collect());
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    // Each key has one who pushes, so that it is known what came first.
    for key in 0..KEYS {
        let store = stores[key % 3].clone();
        tasks.spawn(async move {
            for number in 0..EACH {
                push(&store, vec![ordered("mail", &format!("{key} {number}"), &key.to_string())]).await;
            }
        });
    }
    for worker in 0..6 {
        let (store, orders, done) = (stores[worker % 3].clone(), orders.clone(), done.clone());
        tasks.spawn(async move {
            let mut settlements = Vec::new();
            let mut turn = worker;
            while done.load(Ordering::SeqCst) < KEYS * EACH {
                let asked = settlements.len();
                let (held, claims) = exchange(&store, std::mem::take(&mut settlements), 3, "mail").await;
                assert_eq!(held, vec![true; asked]);
                for claimed in claims.deliveries {
                    let text = String::from_utf8(claimed.payload.to_vec()).unwrap();
                    let (key, number) = text.split_once(' ').unwrap();
                    let (key, number): (usize, usize) = (key.parse().unwrap(), number.parse().unwrap());
                    turn += 1;
                    {
                        let mut order = orders[key].lock().unwrap();
                        assert!(!order.running, "two of a key at once");
                        order.running = true;
                    }
                    tokio::task::yield_now().await;
                    let outcome = match turn % 5 {
                        0 => Outcome::Released,
                        1 => retry(Duration::from_millis(1)),
                        _ => Outcome::Completed,
                    };
                    let mut order = orders[key].lock().unwrap();
                    order.running = false;
                    if matches!(outcome, Outcome::Completed) {
                        order.seen.push(number);
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                    settlements.push(Settlement { lease: claimed.lease, outcome });
                }
            }
            if !settlements.is_empty() {
                store.queue.exchange(settlements.into(), None).await.unwrap();
            }
        });
    }
    timeout(DEADLINE * 2, async { while tasks.join_next().await.transpose().unwrap().is_some() {} })
        .await
        .expect("no key is stuck");
    for order in orders.iter() {
        assert_eq!(order.lock().unwrap().seen, (0..EACH).collect::<Vec<_>>());
    }
    assert_eq!(count(&stores[0], "mail").await.waiting, 0);
}

#[tokio::test]
async fn a_unique_key_stands_for_the_others_of_its_time() {
    let Some(url) = shared() else { return };
    let store = open(&url).await;
    record(&store, &["mail"]).await;
    let within = Duration::from_millis(400);
    let of = |key: &str, value: &str| unique("mail", key, value, within);
    push(&store, vec![of("a1", "a"), of("a2", "a"), of("b1", "b")]).await;
    push(&store, vec![of("a3", "a"), of("a1", "a")]).await;
    let first = claim(&store, 10, "mail").await;
    assert_eq!(payloads(&first), ["a1", "b1"]);
    // Whatever became of the first.
    store.queue.exchange(completed(&first).into(), None).await.unwrap();
    push(&store, vec![of("a4", "a")]).await;
    assert!(claim(&store, 10, "mail").await.is_empty());
    tokio::time::sleep(within + Duration::from_millis(50)).await;
    push(&store, vec![of("a5", "a")]).await;
    assert_eq!(payloads(&claim(&store, 10, "mail").await), ["a5"]);
}

#[tokio::test]
async fn a_paused_queue_is_not_claimed_and_its_resumption_is_told() {
    let Some(url) = shared() else { return };
    let (store, other) = (open(&url).await, open(&url).await);
    record(&store, &["mail"]).await;
    push(&store, vec![delivery("mail", "order 17")]).await;
    crate::store::admin(&store).pause("default".to_owned(), true).await.unwrap();
    let (_, claims) = exchange(&other, Vec::new(), 10, "mail").await;
    assert!(claims.deliveries.is_empty() && claims.next_due.is_none());
    assert_eq!(crate::store::admin(&other).stats().await.unwrap().paused, ["default"]);
    let mut mark = 0;
    eventually("it is quiet", async || {
        let seen = mark;
        mark = other.queue.wait(seen, Duration::from_millis(300)).await;
        mark == seen
    })
    .await;
    crate::store::admin(&store).pause("default".to_owned(), false).await.unwrap();
    assert_ne!(timeout(DEADLINE, other.queue.wait(mark, LONG)).await.unwrap(), mark);
    assert_eq!(claim(&other, 10, "mail").await.len(), 1);
}

#[tokio::test]
async fn a_higher_priority_is_claimed_first_and_one_priority_evenly() {
    let Some(url) = shared() else { return };
    let store = open(&url).await;
    record(&store, &["high", "left", "right", "low"]).await;
    for handler in ["high", "left", "right", "low"] {
        push(&store, (0..10).map(|number| delivery(handler, &format!("{handler} {number}"))).collect()).await;
    }
    let handlers = [
        ("low", 1, Priority::Low),
        ("left", 1, Priority::Normal),
        ("right", 1, Priority::Normal),
        ("high", 1, Priority::High),
    ];
    let mut claim = claim_of(17, &handlers);
    claim.queues[0].handlers[3].wanted = 4;
    let claims = store.queue.exchange([].into(), Some(claim)).await.unwrap().claims;
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for claimed in &claims.deliveries {
        *counts.entry(&claimed.handler).or_default() += 1;
    }
    assert_eq!(counts, HashMap::from([("high", 4), ("left", 7), ("right", 6)]));
    assert_eq!(claims.next_due, Some(Duration::ZERO));
    assert_eq!(
        payloads(&claims.deliveries)[..8],
        ["high 0", "high 1", "high 2", "high 3", "left 0", "right 0", "left 1", "right 1"]
    );
}

#[tokio::test]
async fn the_oldest_of_several_versions_comes_first() {
    let Some(url) = shared() else { return };
    let store = open(&url).await;
    record(&store, &["mail"]).await;
    for number in 0..150 {
        let version = 1 + number % 3;
        push(&store, vec![NewDelivery { version, ..delivery("mail", &format!("{number:03}")) }]).await;
    }
    let claim = claim_of(140, &[("mail", 2, Priority::Normal)]);
    let claimed = store.queue.exchange([].into(), Some(claim)).await.unwrap().claims.deliveries;
    let expected: Vec<_> = (0..150).filter(|number| number % 3 != 2).map(|number| format!("{number:03}")).collect();
    assert_eq!(payloads(&claimed), expected);
    for claimed in &claimed {
        let number: u32 = String::from_utf8(claimed.payload.to_vec()).unwrap().parse().unwrap();
        assert_eq!(claimed.version, 1 + number % 3);
    }
    let held = store.queue.exchange(completed(&claimed).into(), None).await.unwrap().held;
    assert_eq!(held, vec![true; 100]);
    assert_eq!(count(&store, "mail").await.waiting, 50);
}

#[tokio::test]
async fn dead_letters_are_read_requeued_discarded_and_swept_beyond_a_page() {
    let Some(url) = shared() else { return };
    let store = open(&url).await;
    record(&store, &["mail", "stock"]).await;
    let all: Vec<_> = (0..1_300).map(|number| delivery("mail", &format!("{number}"))).collect();
    push(&store, all).await;
    push(&store, vec![delivery("stock", "stock")]).await;
    for handler in ["mail", "stock"] {
        let claimed = claim(&store, 2_000, handler).await;
        let dies = claimed.iter().map(|claimed| Settlement { lease: claimed.lease, outcome: dead() });
        store.queue.exchange(dies.collect(), None).await.unwrap();
    }
    let letters = crate::store::admin(&store).dead_letters(Some("mail".to_owned()), 250).await.unwrap();
    let told: Vec<_> = letters.iter().map(|letter| String::from_utf8(letter.payload.to_vec()).unwrap()).collect();
    assert_eq!(told, (1_050..1_300).rev().map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!((letters[0].event.as_str(), letters[0].attempts), ("OrderPlaced", 3));
    assert_eq!(&*crate::store::admin(&store).dead_letters(None, 1).await.unwrap()[0].handler, "stock");

    assert_eq!(crate::store::requeue(&store, Letters::One(letters[0].id)).await, 1);
    assert_eq!(crate::store::requeue(&store, Letters::One(letters[0].id)).await, 0);
    let back = claim(&store, 10, "mail").await;
    assert_eq!((payloads(&back), back[0].failed, back[0].blame), (vec!["1299".to_owned()], 0, Blame::default()));
    assert_eq!(crate::store::discard(&store, Letters::One(letters[1].id)).await, 1);
    let kept = Retention { age: Duration::from_hours(1), count: 699 };
    let swept = crate::store::admin(&store).sweep(kept).await.unwrap();
    assert!(swept.dead_letters < 600 && swept.more, "in steps: {swept:?}");
    let mut deleted = swept.dead_letters;
    loop {
        let swept = crate::store::admin(&store).sweep(kept).await.unwrap();
        deleted += swept.dead_letters;
        if !swept.more {
            break;
        }
    }
    assert_eq!(deleted, 600, "1,298 of mail and one of stock, but for the newest");
    assert_eq!(crate::store::discard(&store, Letters::Of("stock".to_owned())).await, 1);
    assert_eq!(crate::store::requeue(&store, Letters::Of("mail".to_owned())).await, 698);
    assert_eq!(crate::store::requeue(&store, Letters::Of("nobody".to_owned())).await, 0);
    assert_eq!(claim(&store, 2_000, "mail").await.len(), 698);
    assert!(crate::store::admin(&store).dead_letters(None, 10).await.unwrap().is_empty());
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(
        crate::store::admin(&store).sweep(Retention { age: Duration::ZERO, count: 10 }).await.unwrap().dead_letters,
        0
    );
}
