//! A relay's push that arrives late: held up by the network, sent by a process that was stopped or is dead by then, or repeated
//! because its answer was missing. Whatever another relay has made of the row meanwhile, each handler has each event once, and
//! those of one order key in their order.
//!
//! On every pair of outbox and queue. A file has no network: there the relay's process is stopped while it waits for the file.

mod base;
mod held;
mod stopped;

use std::{collections::BTreeMap, time::Duration};

use evented::{App, Outboxed, Run, prelude::*, sqlx::Pool};
use evented_tests::{Seen, eventually};
use serde::{Deserialize, Serialize};

use self::base::Base;

/// The shortest. A relay's lease on its rows is as long.
const LEASE: Duration = Duration::from_secs(1);
/// More than are relayed while a test looks away, and few enough for one push.
const EVENTS: u32 = 40;
const KEYS: u32 = 5;

#[event(transactional, id = "late.sent")]
#[derive(Serialize, Deserialize)]
struct Sent {
    key: u32,
    number: u32,
}

#[handler(Sent, background(ordered_by = "key"), id = "late.follow")]
async fn follow(event: Sent, seen: State<Seen>) {
    seen.note(format!("follow {} {}", event.key, event.number));
}

#[handler(Sent, background, id = "late.join")]
async fn join(event: Sent, seen: State<Seen>) {
    seen.note(format!("join {} {}", event.key, event.number));
}

/// Never emitted: a process that works on this queue alone relays, and runs nothing.
#[event(id = "late.never")]
#[derive(Serialize, Deserialize)]
struct Never;

#[handler(Never, background(queue = "late-relays"), id = "late.idle")]
async fn idle(_event: Never) {}

fn instance<Db: Outboxed>(pool: &Pool<Db>, queue: &str, seen: &Seen) -> Run {
    let run = evented::run().install(false).module(module_path!()).queue(queue).outbox(pool.clone());
    run.state(seen.clone()).lease(LEASE).grace(Duration::from_secs(1))
}

/// Commits the events with these numbers, in one transaction.
async fn send<Db: Base>(app: &App, pool: &Pool<Db>, numbers: std::ops::Range<u32>) {
    let mut tx = evented::begin(pool).await.unwrap();
    for number in numbers {
        Db::send(app, &mut tx, Sent { key: number % KEYS, number }).await;
    }
    tx.commit().await.unwrap();
}

/// How many runs there were of these events, by both handlers.
fn runs(seen: &Seen) -> usize {
    seen.all().len()
}

/// Waits until a relay has all rows under its lease.
async fn until_leased<Db: Base>(pool: &Pool<Db>, rows: u32) {
    eventually("a relay takes the rows", async || Db::leased(pool).await == i64::from(rows)).await;
}

/// Waits until another relay has pushed and finished, and all has run: each handler has had each event.
async fn until_delivered<Db: Base>(pool: &Pool<Db>, seen: &Seen, events: u32) {
    eventually("the other relay finishes", async || Db::rows(pool).await == 0).await;
    let wanted = usize::try_from(events).unwrap() * 2;
    eventually("all is delivered", async || runs(seen) >= wanted).await;
}

/// Counts the runs by event and handler, and holds the order of each key.
#[track_caller]
fn judge(seen: &Seen, events: u32) {
    let mut runs: BTreeMap<(String, u32), usize> = BTreeMap::new();
    let mut last: BTreeMap<u32, u32> = BTreeMap::new();
    let (mut twice, mut disordered) = (Vec::new(), Vec::new());
    for noted in seen.all() {
        let [handler, key, number] = noted.split(' ').collect::<Vec<_>>()[..] else { panic!("no note: {noted}") };
        let (key, number): (u32, u32) = (key.parse().unwrap(), number.parse().unwrap());
        let count = runs.entry((handler.to_owned(), number)).or_default();
        *count += 1;
        if *count == 2 {
            twice.push(noted.clone());
        }
        if handler == "follow" {
            match last.insert(key, number) {
                Some(before) if before > number => disordered.push((key, before, number)),
                _ => {}
            }
        }
    }
    let missing: Vec<_> = ["follow", "join"]
        .into_iter()
        .flat_map(|handler| (0..events).map(move |number| (handler.to_owned(), number)))
        .filter(|run| !runs.contains_key(run))
        .collect();
    assert!(
        twice.is_empty() && disordered.is_empty() && missing.is_empty(),
        "{} ran twice, {} pairs of a key out of order, {} missing\ntwice: {twice:?}\nout of order: {disordered:?}\nlost: {missing:?}",
        twice.len(),
        disordered.len(),
        missing.len(),
    );
}
