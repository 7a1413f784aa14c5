//! Killed at every point, nothing committed is lost: a process is killed with SIGKILL again and again while it places
//! orders and works them off, and in the end every committed order has had its effects. And asked to stop with SIGTERM,
//! it ends what it began.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use evented::{
    prelude::*,
    sqlx::{AssertSqlSafe, SqlitePool, query_scalar},
};
use evented_tests::{Place, open_pool};
use serde::{Deserialize, Serialize};

/// How often the process is killed.
const KILLS: u64 = 12;
/// How long the last process may take to work off what is left.
const FINISH: Duration = Duration::from_mins(2);

fn victim(folder: &Path, mode: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_victim"));
    command.arg(folder).arg(mode);
    command
}

/// Starts a victim, reads `lines` lines of what it says, waits a moment more and kills it. Answers all that it said.
fn run_and_kill(folder: &Path, mode: &str, lines: usize, moment: Duration) -> Vec<String> {
    let mut child = victim(folder, mode).stdout(Stdio::piped()).spawn().expect("the victim starts");
    let mut said = BufReader::new(child.stdout.take().expect("it was asked for")).lines();
    let mut all: Vec<String> = said.by_ref().take(lines).map(|line| line.expect("it prints text")).collect();
    assert_eq!(all.len(), lines, "the victim ended by itself");
    // Not to hope by: the moment only varies where the kill lands.
    std::thread::sleep(moment);
    child.kill().expect("a process can be killed");
    child.wait().expect("a killed process ends");
    all.extend(said.map_while(Result::ok));
    all
}

fn finish(folder: &Path) {
    run_to_its_end(&mut victim(folder, "finish"));
}

fn run_to_its_end(victim: &mut Command) {
    let mut child = victim.spawn().expect("the victim starts");
    let until = std::time::Instant::now() + FINISH;
    while child.try_wait().expect("a child can be waited for").is_none() && std::time::Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    // Ends it where it has not ended; one that has cannot be killed any more.
    let _ended = child.kill();
    let status = child.wait().expect("a child can be waited for");
    assert!(status.success(), "what was left was not worked off within {FINISH:?}: {status}");
}

/// The numbers that were said behind `what`.
fn numbers(said: &[String], what: &str) -> BTreeSet<i64> {
    // The last line of a killed process may be cut short, so a number must have its line to itself.
    let number = |line: &String| line.strip_prefix(what)?.strip_prefix(' ')?.parse().ok();
    said.iter().filter_map(number).collect()
}

async fn column(pool: &SqlitePool, sql: &str) -> Vec<i64> {
    query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await.expect("the tables are there")
}

/// A small generator, so that a failed run can be repeated: `EVENTED_SEED=.. cargo test`.
struct Chance(u64);

impl Chance {
    fn up_to(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Stored by this process for the victim's handler, which it knows from the catalogue alone.
#[event(id = "slow")]
#[derive(Serialize, Deserialize)]
struct Slow {
    number: i64,
}

#[tokio::test]
async fn a_worker_that_is_killed_in_the_middle_of_its_handlers_loses_none_of_them() {
    let place = Place::new();
    let folder = place.path("");
    finish(&folder);
    let queue = format!("sqlite:{}", place.path("evented.db").display());
    let app = evented::run().install(false).role(Role::Emit).queue(queue).await.expect("the emitter starts");
    app.emit_all((0..100).map(|number| Slow { number })).await.expect("the events are stored");

    let began: BTreeSet<i64> =
        (0..3).flat_map(|_| numbers(&run_and_kill(&folder, "work", 3, Duration::ZERO), "began")).collect();
    let pool = open_pool(place.path("shop.db")).await;
    let ended: BTreeSet<i64> = column(&pool, "select number from mails").await.into_iter().collect();
    assert!(!began.is_subset(&ended), "no handler was killed in its middle: began {began:?}, ended {ended:?}");

    finish(&folder);
    let ended: BTreeSet<i64> = column(&pool, "select number from mails").await.into_iter().collect();
    assert_eq!(ended, (0..100).collect());
    let file = open_pool(place.path("evented.db")).await;
    let left =
        column(&file, "select count(*) from evented_deliveries union all select count(*) from evented_dead_letters")
            .await;
    assert_eq!(left, [0, 0]);
}

/// The same for one whose payload kills whoever decodes it.
#[event(id = "brittle")]
#[derive(Serialize, Deserialize)]
struct Brittle {
    number: i64,
}

#[tokio::test]
async fn a_payload_that_kills_its_decoder_is_buried_and_its_neighbours_are_handled() {
    let place = Place::new();
    let folder = place.path("");
    finish(&folder);
    let queue = format!("sqlite:{}", place.path("evented.db").display());
    let app = evented::run().install(false).role(Role::Emit).queue(queue).await.expect("the emitter starts");
    app.emit_all((0..20).map(|number| Brittle { number })).await.expect("the events are stored");

    let mut deaths = 0;
    while !victim(&folder, "finish").status().expect("the victim starts").success() {
        deaths += 1;
        assert!(deaths <= 8, "it kills on");
    }
    let pool = open_pool(place.path("shop.db")).await;
    let ended: BTreeSet<i64> = column(&pool, "select number from mails").await.into_iter().collect();
    assert_eq!(ended, (0..20).filter(|number| *number != 13).collect());
    let file = open_pool(place.path("evented.db")).await;
    let left =
        column(&file, "select count(*) from evented_deliveries union all select count(*) from evented_dead_letters")
            .await;
    assert_eq!(left, [0, 1], "after {deaths} deaths");
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_ends_what_it_began() {
    let place = Place::new();
    let folder = place.path("");
    finish(&folder);
    let queue = format!("sqlite:{}", place.path("evented.db").display());
    let app = evented::run().install(false).role(Role::Emit).queue(queue).await.expect("the emitter starts");
    app.emit_all((0..500).map(|number| Slow { number })).await.expect("the events are stored");

    let mut child = victim(&folder, "work").stdout(Stdio::piped()).spawn().expect("the victim starts");
    let mut said = BufReader::new(child.stdout.take().expect("it was asked for")).lines();
    let mut all: Vec<String> = said.by_ref().take(3).map(|line| line.expect("it prints text")).collect();
    let asked = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("there is a `kill`");
    assert!(asked.success());
    all.extend(said.map_while(Result::ok));
    let status = child.wait().expect("a child can be waited for");
    assert!(status.success(), "a process that was asked to stop ends well: {status}");

    let pool = open_pool(place.path("shop.db")).await;
    let ended: BTreeSet<i64> = column(&pool, "select number from mails").await.into_iter().collect();
    assert_eq!(ended, numbers(&all, "began"), "what began has ended, and nothing else");
    assert!(ended.len() < 500, "it stopped before all was done");
    let file = open_pool(place.path("evented.db")).await;
    let left = column(&file, "select count(*) from evented_deliveries where lease is null and failed = 0").await;
    assert_eq!(left, [500 - i64::try_from(ended.len()).expect("it is small")], "the others wait, none is held");
}

#[tokio::test]
async fn a_worker_takes_its_stores_from_the_environment_where_the_code_names_none() {
    let place = Place::new();
    let folder = place.path("");
    run_and_kill(&folder, "place", 20, Duration::ZERO);
    let url = |file: &str| format!("sqlite:{}", place.path(file).display());
    let environment = [("EVENTED_QUEUE", url("evented.db")), ("EVENTED_OUTBOX", url("shop.db"))];
    run_to_its_end(victim(&folder, "environment").envs(environment));
    let pool = open_pool(place.path("shop.db")).await;
    let orders = column(&pool, "select number from orders order by number").await;
    assert!(!orders.is_empty());
    assert_eq!(column(&pool, "select entry from ledger order by entry").await, orders);
}

#[tokio::test]
async fn nothing_committed_is_lost_when_the_process_is_killed_again_and_again() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    let seed =
        std::env::var("EVENTED_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(now.subsec_nanos().into());
    println!("EVENTED_SEED={seed}");
    let mut chance = Chance(seed);
    let place = Place::new();
    let folder = place.path("");
    let mut said = Vec::new();
    for _ in 0..KILLS {
        let lines = usize::try_from(1 + chance.up_to(80)).expect("it is small");
        said.extend(run_and_kill(&folder, "place", lines, Duration::from_millis(chance.up_to(30))));
    }
    finish(&folder);

    let pool = open_pool(place.path("shop.db")).await;
    let orders: BTreeSet<i64> = column(&pool, "select number from orders").await.into_iter().collect();
    let acknowledged = numbers(&said, "order");
    assert!(
        acknowledged.len() > usize::try_from(KILLS).expect("it is small"),
        "orders were placed: {}",
        acknowledged.len()
    );
    assert!(acknowledged.is_subset(&orders), "a committed order is gone");

    let ledger = column(&pool, "select entry from ledger order by entry").await;
    assert_eq!(
        ledger,
        orders.iter().copied().collect::<Vec<_>>(),
        "each committed order is booked exactly once, no other is"
    );
    let mails: BTreeSet<i64> = column(&pool, "select number from mails").await.into_iter().collect();
    assert_eq!(mails, orders, "each committed order has its mail, no other has");
    let notes: BTreeSet<i64> = column(&pool, "select number from notes").await.into_iter().collect();
    let promised = numbers(&said, "note");
    assert!(promised.is_subset(&notes), "lost notes: {:?}", promised.difference(&notes).collect::<Vec<_>>());

    let left =
        column(&pool, "select count(*) from evented_outbox union all select count(*) from evented_deliveries").await;
    assert_eq!(left, [0, 0], "nothing is left in the outbox");
    let queue = open_pool(place.path("evented.db")).await;
    let dead =
        column(&queue, "select count(*) from evented_deliveries union all select count(*) from evented_dead_letters")
            .await;
    assert_eq!(dead, [0, 0], "nothing is left in the queue, nothing died");
}
