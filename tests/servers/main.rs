//! The servers and the proxy of the tests do what the tests rely on: a killed server has kept what it acknowledged, a
//! stopped one is silent, and none is left behind.

mod proxy;

use std::{
    collections::HashSet,
    env, fs,
    io::{BufRead, BufReader},
    panic::catch_unwind,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use evented_tests::{
    DEADLINE,
    servers::{Kind, Mariadb, Postgres, Redis, Server},
};

/// Looks again and again until it holds.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < until, "did not happen within {DEADLINE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Writes 0, 1, 2 .. until the server is killed in the middle: how many were acknowledged.
fn write_until_killed<K: Kind>(server: &mut Server<K>, write: impl Fn(usize) -> bool + Sync) -> usize {
    let acknowledged = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while write(acknowledged.load(Ordering::SeqCst)) {
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
        });
        eventually("some are written", || acknowledged.load(Ordering::SeqCst) >= 5);
        server.kill();
    });
    acknowledged.into_inner()
}

/// What was kept is what was acknowledged, and perhaps the one that was under way.
fn assert_kept(kept: &str, acknowledged: usize) {
    let kept: Vec<usize> = kept.lines().map(|number| number.parse().expect("a number was written")).collect();
    assert!([acknowledged, acknowledged + 1].contains(&kept.len()), "{acknowledged} acknowledged, kept {kept:?}");
    assert!(kept.iter().copied().eq(0..kept.len()), "{kept:?}");
}

#[test]
fn a_redis_that_is_killed_keeps_what_appendfsync_always_acknowledged() {
    let Some(mut redis) = Redis::start(&[("appendonly", "yes"), ("appendfsync", "always")]) else { return };
    let (port, pids, client) = (redis.port(), redis.pids(), redis.client());
    let acknowledged =
        write_until_killed(&mut redis, |number| client.ask(&["RPUSH", "all", &number.to_string()]).is_ok());
    assert!(redis.ask(&["PING"]).is_err(), "a killed redis does not answer");
    redis.restart();
    assert_eq!(redis.port(), port);
    assert_ne!(redis.pids(), pids);
    assert_kept(&redis.ask(&["LRANGE", "all", "0", "-1"]).expect("it answers"), acknowledged);
}

#[test]
fn a_redis_without_persistence_forgets_at_a_restart() {
    let Some(mut redis) = Redis::start(&[]) else { return };
    redis.ask(&["SET", "key", "value"]).expect("it answers");
    assert_eq!(redis.ask(&["GET", "key"]).as_deref(), Ok("value"));
    redis.restart();
    assert_eq!(redis.ask(&["GET", "key"]).as_deref(), Ok("(nil)"));
}

#[test]
fn a_postgres_that_is_killed_keeps_what_it_acknowledged() {
    let Some(mut postgres) = Postgres::start(&[]) else { return };
    assert_eq!(postgres.ask(&postgres.url(), "show fsync").as_deref(), Ok("on"));
    let (port, pids, client) = (postgres.port(), postgres.pids(), postgres.client());
    let url = postgres.database();
    client.ask(&url, "create table written (number integer)").expect("it answers");
    let write = |number| client.ask(&url, &format!("insert into written values ({number})")).is_ok();
    let acknowledged = write_until_killed(&mut postgres, write);
    assert!(postgres.ask(&url, "select 1").is_err(), "a killed postgres does not answer");
    postgres.restart();
    assert_eq!(postgres.port(), port);
    assert_ne!(postgres.pids(), pids);
    assert_kept(&postgres.ask(&url, "select number from written order by number").expect("it answers"), acknowledged);
}

#[test]
fn a_mariadb_that_is_killed_keeps_what_it_acknowledged() {
    let Some(mut mariadb) = Mariadb::start(&[]) else { return };
    let (port, pids, client) = (mariadb.port(), mariadb.pids(), mariadb.client());
    let url = mariadb.database();
    let name = url.rsplit('/').next().expect("a URL ends with the database");
    assert_eq!(client.ask(name, "select @@innodb_flush_log_at_trx_commit").as_deref(), Ok("1"));
    client.ask(name, "create table written (number integer)").expect("it answers");
    let write = |number| client.ask(name, &format!("insert into written values ({number})")).is_ok();
    let acknowledged = write_until_killed(&mut mariadb, write);
    assert!(client.ask(name, "select 1").is_err(), "a killed mariadb does not answer");
    mariadb.restart();
    assert_eq!(mariadb.port(), port);
    assert_ne!(mariadb.pids(), pids);
    assert_kept(&client.ask(name, "select number from written order by number").expect("it answers"), acknowledged);
}

#[test]
fn a_redis_that_is_stopped_is_silent_and_then_answers_again() {
    let Some(mut redis) = Redis::start(&[]) else { return };
    redis.stop();
    assert!(redis.ask(&["PING"]).is_err());
    redis.cont();
    redis.wait_ready();
    assert_eq!(redis.ask(&["PING"]).as_deref(), Ok("PONG"));
}

#[test]
fn a_postgres_that_is_stopped_is_silent_and_then_goes_on_with_what_it_did() {
    let Some(mut postgres) = Postgres::start(&[("log_statement", "all")]) else { return };
    let (url, client) = (postgres.url(), postgres.client());
    thread::scope(|scope| {
        let asked = scope.spawn(|| client.ask(&url, "select 'slept' from pg_sleep(0.5)"));
        let log = postgres.folder().join("log");
        eventually("the statement runs", || fs::read_to_string(&log).expect("there is a log").contains("pg_sleep"));
        postgres.stop();
        assert!(postgres.ask(&url, "select 1").is_err());
        assert!(!asked.is_finished(), "the processes of connections are stopped as well");
        postgres.cont();
        assert_eq!(asked.join().expect("it does not panic").as_deref(), Ok("slept"));
    });
    assert_eq!(postgres.ask(&url, "select 1").as_deref(), Ok("1"));
}

#[test]
fn a_server_that_is_stopped_can_be_killed_and_restarted() {
    let Some(mut postgres) = Postgres::start(&[]) else { return };
    postgres.stop();
    postgres.restart();
    assert_eq!(postgres.ask(&postgres.url(), "select 1").as_deref(), Ok("1"));
}

#[test]
fn settings_hold() {
    let settings = [("maxmemory", "10mb"), ("maxmemory-policy", "allkeys-lru")];
    let Some(redis) = Redis::start(&settings) else { return };
    assert_eq!(redis.ask(&["CONFIG", "GET", "maxmemory"]).as_deref(), Ok("maxmemory\n10485760"));
    assert_eq!(redis.ask(&["CONFIG", "GET", "maxmemory-policy"]).as_deref(), Ok("maxmemory-policy\nallkeys-lru"));
    let Some(postgres) = Postgres::start(&[("fsync", "off"), ("max_connections", "7")]) else { return };
    let shown = postgres.ask(&postgres.url(), "select current_setting('fsync'), current_setting('max_connections')");
    assert_eq!(shown.as_deref(), Ok("off|7"));
}

#[test]
fn a_server_that_does_not_start_shows_its_log() {
    if Redis::shared().is_none() {
        return;
    }
    let panic = catch_unwind(|| Redis::start(&[("no-such-setting", "1")])).err().expect("it does not start");
    let said = panic.downcast_ref::<String>().expect("it says why");
    assert!(said.contains("it ended by itself; its log ends:") && said.contains("no-such-setting"), "{said}");
}

#[test]
fn a_cluster_of_one_node_has_all_slots() {
    let Some(mut redis) = Redis::start(&[("cluster-enabled", "yes")]) else { return };
    let nodes = redis.ask(&["CLUSTER", "SLOTS"]).expect("it answers");
    assert!(nodes.starts_with(&format!("0\n16383\n127.0.0.1\n{}", redis.port())), "{nodes}");
    assert_eq!(redis.ask(&["SET", "key", "value"]).as_deref(), Ok("OK"));
    redis.restart();
    assert_eq!(redis.ask(&["SET", "key", "value"]).as_deref(), Ok("OK"));
}

#[test]
fn a_replica_follows_and_takes_over() {
    let Some(mut first) = Redis::start(&[("repl-diskless-sync-delay", "0")]) else { return };
    let of = format!("127.0.0.1 {}", first.port());
    let Some(second) = Redis::start(&[("replicaof", &of)]) else { return };
    first.ask(&["SET", "key", "value"]).expect("it answers");
    eventually("the key is at the replica", || second.ask(&["GET", "key"]).as_deref() == Ok("value"));
    first.kill();
    assert!(second.ask(&["SET", "key", "other"]).is_err(), "a replica cannot be written to");
    second.ask(&["REPLICAOF", "NO", "ONE"]).expect("it answers");
    assert_eq!(second.ask(&["SET", "key", "other"]).as_deref(), Ok("OK"));
}

#[test]
fn tests_that_share_a_server_do_not_meet() {
    let (Some(redis), Some(same)) = (Redis::shared(), Redis::shared()) else { return };
    assert_eq!(redis.port(), same.port());
    assert_ne!(redis.prefix(), same.prefix());
    let (Some(postgres), Some(same)) = (Postgres::shared(), Postgres::shared()) else { return };
    assert_eq!(postgres.port(), same.port());
    let (one, other) = (postgres.database(), postgres.database());
    postgres.ask(&one, "create table only_here ()").expect("it answers");
    let found = |url| postgres.ask(url, "select to_regclass('only_here') is not null");
    assert_eq!((found(&one).as_deref(), found(&other).as_deref()), (Ok("t"), Ok("f")));
    let encoding = postgres.ask(&one, "select current_setting('server_encoding'), datcollate from pg_database limit 1");
    assert_eq!(encoding.as_deref(), Ok("UTF8|C.UTF-8"));
}

/// Runs a test of this file in a process that finds no program.
fn run_without_programs(test: &str, required: &str) -> (bool, String) {
    let mut again = Command::new(env::current_exe().expect("the test is a program"));
    again.args(["--exact", test, "--nocapture"]).env("PATH", "/nonexistent").env("EVENTED_REQUIRE_SERVERS", required);
    let done = again.output().expect("it runs");
    let said = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn a_test_of_a_server_that_is_not_installed_is_skipped_unless_servers_are_required() {
    let test = "a_redis_without_persistence_forgets_at_a_restart";
    let (success, said) = run_without_programs(test, "0");
    assert!(success && said.contains("skipped: redis-server not found"), "{said}");
    let (success, said) = run_without_programs(test, "1");
    assert!(!success && said.contains("redis-server not found on PATH: install it"), "{said}");
}

#[test]
fn no_server_outlives_the_process_that_started_it() {
    if Redis::shared().is_none() || Postgres::shared().is_none() {
        return;
    }
    for mode in ["panics", "waits"] {
        let mut starter = Command::new(env!("CARGO_BIN_EXE_starter"));
        let mut starter = starter.arg(mode).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
        let lines = BufReader::new(starter.stdout.take().expect("it was asked for")).lines();
        let said: Vec<String> =
            lines.map(|line| line.expect("it prints text")).take_while(|line| line != "started").collect();
        let under = |what: &str| -> HashSet<String> {
            said.iter().filter_map(|line| line.strip_prefix(what)).map(str::to_owned).collect()
        };
        let (pids, folders) = (under("process "), under("folder "));
        assert!(pids.len() > 5 && folders.len() == 3, "{said:?}");
        if mode == "waits" {
            starter.kill().expect("a process can be killed");
        }
        assert!(!starter.wait().expect("a child can be waited for").success());
        // One that has ended stays in the list until its parent has looked, which is not ours to see to.
        let runs = |pid: &String| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        eventually("the servers have ended", || !pids.iter().any(runs));
        eventually("their folders are gone", || !folders.iter().any(|folder| Path::new(folder).exists()));
    }
}
