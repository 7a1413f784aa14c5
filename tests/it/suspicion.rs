//! Sessions that die and come back at random, with suspects among all else: nothing is lost, and all of it is counted.

use std::{sync::Arc, time::Duration};

use evented::{
    DeliveryId, EventId, Origin, Policy, Priority, Route, SessionId,
    store::{
        CatalogueEntry, Claim, ClaimHandler, ClaimQueue, Claimed, Lapsed, NewDelivery, Outcome, Push, Settlement,
        Store, Suspects,
    },
    testing::Site,
};
use evented_tests::{dice::Dice, eventually};

const HANDLERS: [&str; 2] = ["mail", "stock"];
/// Ends within a round or two.
const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_mins(1);

fn handler(id: &str) -> CatalogueEntry {
    CatalogueEntry {
        handler: id.into(),
        aliases: Vec::new(),
        event: "OrderPlaced".to_owned(),
        event_aliases: Vec::new(),
        route: Route::Background,
        queue: "default".to_owned(),
        policy: Policy::DEFAULT,
        unique: None,
        ordered_by: None,
    }
}

fn delivery(handler: &str) -> NewDelivery {
    let event_id = EventId::new();
    NewDelivery {
        id: DeliveryId::derive(event_id, handler),
        event_id,
        handler: handler.into(),
        origin: Origin::of(event_id),
        version: 1,
        emitted_unix_ms: None,
        delay: Duration::ZERO,
        policy: Policy::DEFAULT,
        unique: None,
        order: None,
        payload: (*b"order 17").into(),
    }
}

fn queues() -> Vec<ClaimQueue> {
    let of = |name: &str| ClaimHandler { name: name.into(), version: 1, priority: Priority::Normal, wanted: 5 };
    vec![ClaimQueue { name: "default".into(), handlers: HANDLERS.map(of).into(), wanted: 5 }]
}

async fn claim(store: &Store, session: SessionId, lease: Duration) -> Vec<Claimed> {
    let claim = Claim { queues: queues(), lease, session, lapsed: Lapsed::Take };
    store.queue.exchange([].into(), Some(claim)).await.unwrap().claims.deliveries
}

async fn suspects(store: &Store, session: SessionId, lease: Duration) -> Vec<Claimed> {
    let tried = Some(Duration::from_hours(1));
    let asked = Suspects { queues: queues(), lease, session, exposed: 3, tried };
    let suspected = store.queue.suspects(asked).await.unwrap();
    suspected.exposed.into_iter().chain(suspected.tried).collect()
}

async fn settle(store: &Store, claimed: &[Claimed], outcome: impl Fn(usize) -> Outcome) -> usize {
    let settlement = |(at, claimed): (usize, &Claimed)| Settlement { lease: claimed.lease, outcome: outcome(at) };
    let settlements: Arc<[_]> = claimed.iter().enumerate().map(settlement).collect();
    let held = store.queue.exchange(Arc::clone(&settlements), None).await.unwrap().held;
    held.iter()
        .zip(&*settlements)
        .filter(|(held, settlement)| **held && matches!(settlement.outcome, Outcome::Completed))
        .count()
}

/// Works in rounds; answers how many deliveries it stored, and how many it completed.
async fn work(store: Store, mut dice: Dice) -> (usize, usize) {
    let generation = store.catalogue.read().await.unwrap().generation;
    let (mut pushed, mut completed) = (0, 0);
    let mut session = SessionId::mint();
    let mut claimed = Vec::new();
    for _ in 0..60 {
        let lease = if dice.one_in(4) { LONG } else { SHORT };
        match dice.below(8) {
            0 => {
                let new: Vec<_> =
                    (0..=dice.below(4)).map(|number| delivery(HANDLERS[usize::from(number % 2 == 0)])).collect();
                pushed += new.len();
                assert!(store.queue.push(Push::of(generation, new)).await.unwrap().is_stored());
            }
            1 | 2 => claimed.extend(claim(&store, session, lease).await),
            3 | 4 => claimed.extend(suspects(&store, session, lease).await),
            // One that was dead takes its deaths back.
            5 => {
                let leases: Vec<_> = claimed.iter().map(|claimed| claimed.lease).collect();
                store.queue.extend(session, &leases, lease).await.unwrap();
            }
            6 => {
                if dice.one_in(2) {
                    store.queue.leave(session).await.unwrap();
                }
                session = SessionId::mint();
            }
            _ => {
                let outcomes = usize::try_from(dice.below(3)).expect("it is small");
                completed += settle(&store, &claimed, |at| match (at + outcomes) % 3 {
                    0 => Outcome::Completed,
                    1 => Outcome::Retry { delay: Duration::ZERO, error: "away".to_owned() },
                    _ => Outcome::Released,
                })
                .await;
                claimed.clear();
            }
        }
    }
    // What it holds still is another's when its leases have ended, which are long for some.
    settle(&store, &claimed, |_| Outcome::Released).await;
    (pushed, completed)
}

async fn nothing_is_lost_or_counted_wrongly<S: Site>() {
    let Some(site) = S::new().await else { return };
    let stores = [site.open().await, site.open().await];
    crate::store::record(&stores[0], HANDLERS.map(handler)).await;
    let seed = evented::Key::derive("seed", &EventId::new().to_string()).to_bytes();
    let seed = seed[..8].iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
    println!("seed {seed}");
    let working = (0..4_u64).map(|worker| {
        let store = stores[usize::from(worker % 2 == 0)].clone();
        tokio::spawn(work(store, Dice::new(seed, worker)))
    });
    let (mut pushed, mut completed) = (0, 0);
    for worker in working.collect::<Vec<_>>() {
        let (more, done) = worker.await.unwrap();
        (pushed, completed) = (pushed + more, completed + done);
    }
    let store = &stores[0];
    let session = SessionId::mint();
    store.queue.extend(session, &[], LONG).await.unwrap();
    eventually("all of it is completed", async || {
        let mut claimed = claim(store, session, LONG).await;
        claimed.extend(suspects(store, session, LONG).await);
        completed += settle(store, &claimed, |_| Outcome::Completed).await;
        completed == pushed
    })
    .await;
    let stats = crate::store::admin(store).stats().await.unwrap();
    let counts = stats.handlers.iter().map(|count| (count.waiting, count.running)).collect::<Vec<_>>();
    assert_eq!(counts, [(0, 0), (0, 0)]);
    assert_eq!(stats.handlers.iter().map(|count| count.done).sum::<u64>(), completed as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite() {
    nothing_is_lost_or_counted_wrongly::<crate::contract::sqlite::Queue>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres() {
    nothing_is_lost_or_counted_wrongly::<crate::contract::postgres::Queue>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql() {
    nothing_is_lost_or_counted_wrongly::<crate::contract::mysql::Outbox>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_redis() {
    nothing_is_lost_or_counted_wrongly::<crate::contract::redis::Queue>().await;
}
