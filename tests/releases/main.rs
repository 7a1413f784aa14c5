//! A rolling deploy: two releases of one program work on one database, the older beside the newer, both ways round; on a
//! database of each kind.
//!
//! Events are renamed and have new versions, a handler is renamed, one is new. What the older release stored, the newer runs;
//! what the newer stored and the older cannot read waits, at no cost of attempts, for the newer.

mod moved;
mod shop;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use evented::sqlx::{MySql, Postgres, Sqlite};
use evented_tests::DEADLINE;

use shop::{Base, Outcome, Shop};

/// Tests of these behaviours, with the database in their names.
macro_rules! on_each_database {
    ($($behaviour:ident)*) => {
        $(
            mod $behaviour {
                use super::*;

                #[tokio::test(flavor = "multi_thread")]
                async fn on_sqlite() {
                    $behaviour::<Sqlite>().await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn on_postgres() {
                    $behaviour::<Postgres>().await;
                }

                #[tokio::test(flavor = "multi_thread")]
                async fn on_mariadb() {
                    $behaviour::<MySql>().await;
                }
            }
        )*
    };
}

pub(crate) use on_each_database;

const ONE: &str = env!("CARGO_BIN_EXE_release-one");
const TWO: &str = env!("CARGO_BIN_EXE_release-two");
const EMITS: i64 = 5;

/// A release, deployed in a shop.
fn release<Db: Base>(path: &str, shop: &Shop<Db>) -> Command {
    let mut command = Command::new(path);
    command.args([&shop.database, &shop.queue]);
    command
}

fn emit<Db: Base>(path: &str, shop: &Shop<Db>) {
    ask(path, shop, "emit");
}

/// Has a release emit so many events, or sets of them.
fn ask<Db: Base>(path: &str, shop: &Shop<Db>, act: &str) {
    let status = release(path, shop).args([act, &EMITS.to_string()]).status().expect("it starts");
    assert!(status.success(), "{path} does not emit: {status}");
}

/// A worker of a release, killed when it is dropped.
struct Worker {
    child: Child,
    said: Receiver<String>,
}

impl Worker {
    fn start<Db: Base>(path: &str, shop: &Shop<Db>) -> Self {
        let mut child = release(path, shop).arg("work").stdout(Stdio::piped()).spawn().expect("it starts");
        let out = BufReader::new(child.stdout.take().expect("it was asked for"));
        let (say, said) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).all(|line| say.send(line).is_ok()));
        Self { child, said }
    }

    /// What it says until `enough` says so.
    fn until(&self, enough: impl Fn(&BTreeSet<String>) -> bool) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        let until = Instant::now() + DEADLINE;
        while !enough(&lines) {
            match self.said.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => assert!(lines.insert(line.clone()), "`{line}` was handled twice"),
                Err(RecvTimeoutError::Timeout) => panic!("did not come within {DEADLINE:?}; it said {lines:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("it ended by itself; it said {lines:?}"),
            }
        }
        lines
    }

    /// What it says until it has said all of these.
    fn until_all(&self, expected: &[&str]) -> BTreeSet<String> {
        let numbered =
            |word: &str| (1..=EMITS).map(|number| word.replace('N', &number.to_string())).collect::<Vec<_>>();
        let expected: BTreeSet<String> = expected.iter().flat_map(|word| numbered(word)).collect();
        self.until(|said| said.is_superset(&expected))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

async fn the_newer_release_runs_what_the_older_stored_under_other_names_and_in_other_shapes<Db: Base>() {
    let Some(shop) = Db::shop().await else { return };
    // Nobody has worked: what was emitted in transactions lies in the outbox under the older name.
    emit(ONE, &shop);
    let newer = Worker::start(TWO, &shop);
    let said = newer.until_all(&["ship N", "mail N EUR", "greet Ada N", "tick N"]);
    assert!(
        !said.iter().any(|line| line.starts_with("count")),
        "it was emitted before that handler was known: {said:?}"
    );
    assert_eq!(shop.outcome().await, Outcome { left: 0, done: 20, retried: 0, dead: 0 });
    assert_eq!(shop.ledger().await, [1, 2, 3, 4, 5]);
}

async fn the_older_release_leaves_what_it_cannot_read_to_the_newer_at_no_cost<Db: Base>() {
    let Some(shop) = Db::shop().await else { return };
    let older = Worker::start(ONE, &shop);
    emit(TWO, &shop);
    let said = older.until_all(&["tick N"]);
    assert!(said.iter().all(|line| line.starts_with("tick")), "the older release read a newer payload: {said:?}");
    let newer = Worker::start(TWO, &shop);
    let said = newer.until_all(&["ship N", "mail N USD", "greet Ada N", "count N"]);
    assert_eq!(said.len(), 20, "{said:?}");
    // To wait for the newer release is no failure.
    assert_eq!(shop.outcome().await, Outcome { left: 0, done: 25, retried: 0, dead: 0 });
    assert_eq!(shop.ledger().await, [1, 2, 3, 4, 5]);
}

async fn while_both_work_each_event_reaches_each_handler_once<Db: Base>() {
    let Some(shop) = Db::shop().await else { return };
    let (older, newer) = (Worker::start(ONE, &shop), Worker::start(TWO, &shop));
    emit(ONE, &shop);
    let mut said = BTreeSet::new();
    let until = Instant::now() + DEADLINE;
    // Of `ONE`'s events each handler has one delivery, whichever release runs it.
    while said.iter().filter(|line: &&String| !line.starts_with("count")).count() < 20 {
        assert!(Instant::now() < until, "did not come within {DEADLINE:?}: {said:?}");
        for worker in [&older, &newer] {
            while let Ok(line) = worker.said.recv_timeout(Duration::from_millis(5)) {
                let line = line.trim_end_matches(" EUR").to_owned();
                assert!(said.insert(line.clone()), "`{line}` was handled twice");
            }
        }
    }
    // `count` has those that were emitted after the newer release had recorded it: all, some or none.
    let outcome = shop.outcome().await;
    assert!(matches!(outcome, Outcome { left: 0, done: 20..=25, retried: 0, dead: 0 }), "{outcome:?}");
    assert_eq!(shop.ledger().await, [1, 2, 3, 4, 5]);
}

on_each_database! {
    the_newer_release_runs_what_the_older_stored_under_other_names_and_in_other_shapes
    the_older_release_leaves_what_it_cannot_read_to_the_newer_at_no_cost
    while_both_work_each_event_reaches_each_handler_once
}
