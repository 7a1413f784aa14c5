//! A rolling deploy: two releases of one program work on one database, the older beside the newer, both ways round.
//!
//! Events are renamed and have new versions, a handler is renamed, one is new. What the older release stored, the newer runs;
//! what the newer stored and the older cannot read waits, at no cost of attempts, for the newer.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use evented::sqlx::query_scalar;
use evented_tests::{DEADLINE, Place, eventually, open_pool};

const ONE: &str = env!("CARGO_BIN_EXE_release-one");
const TWO: &str = env!("CARGO_BIN_EXE_release-two");
const EMITS: i64 = 5;

fn emit(release: &str, place: &Place) {
    let status = Command::new(release).arg(place.path("")).args(["emit", &EMITS.to_string()]).status();
    assert!(status.expect("the release starts").success());
}

/// A worker of a release, killed when it is dropped.
struct Worker {
    child: Child,
    said: Receiver<String>,
}

impl Worker {
    fn start(release: &str, place: &Place) -> Self {
        let mut command = Command::new(release);
        let mut child = command.arg(place.path("")).arg("work").stdout(Stdio::piped()).spawn().expect("it starts");
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
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("did not come within {DEADLINE:?}; it said {lines:?}")
                }
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

/// Every order is in the ledger, once. A handler says its line before its transaction commits.
async fn the_ledger_has_each_order_once(place: &Place) {
    let pool = open_pool(place.path("shop.db")).await;
    let ledger = async || -> Vec<i64> {
        query_scalar("select entry from ledger order by entry").fetch_all(&pool).await.expect("the ledger can be read")
    };
    eventually("all is booked", async || ledger().await.len() >= 5).await;
    assert_eq!(ledger().await, [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newer_release_runs_what_the_older_stored_under_other_names_and_in_other_shapes() {
    let place = Place::new();
    // Nobody has worked: what was emitted in transactions lies in the outbox under the older name.
    emit(ONE, &place);
    let newer = Worker::start(TWO, &place);
    let said = newer.until_all(&["ship N", "mail N EUR", "greet Ada N", "tick N"]);
    assert!(
        !said.iter().any(|line| line.starts_with("count")),
        "it was emitted before that handler was known: {said:?}"
    );
    the_ledger_has_each_order_once(&place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_release_leaves_what_it_cannot_read_to_the_newer_at_no_cost() {
    let place = Place::new();
    let older = Worker::start(ONE, &place);
    emit(TWO, &place);
    let said = older.until_all(&["tick N"]);
    assert!(said.iter().all(|line| line.starts_with("tick")), "the older release read a newer payload: {said:?}");
    let newer = Worker::start(TWO, &place);
    let said = newer.until_all(&["ship N", "mail N USD", "greet Ada N", "count N"]);
    assert_eq!(said.len(), 20, "{said:?}");
    the_ledger_has_each_order_once(&place).await;
    drop((older, newer));
    let queue = open_pool(place.path("evented.db")).await;
    let retried: i64 =
        query_scalar("select sum(retried) + sum(dead) from evented_handlers").fetch_one(&queue).await.unwrap();
    assert_eq!(retried, 0, "to wait for the newer release is no failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_both_work_each_event_reaches_each_handler_once() {
    let place = Place::new();
    let (older, newer) = (Worker::start(ONE, &place), Worker::start(TWO, &place));
    emit(ONE, &place);
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
    the_ledger_has_each_order_once(&place).await;
    drop((older, newer));
}
