//! The measuring programs run, and print the lines that they promise: each in its smallest form, on SQLite.

use std::process::Command;

use serde_json::{Map, Value};

fn lines(program: &str, args: &[&str]) -> Vec<Map<String, Value>> {
    let done = Command::new(program).args(args).output().expect("the program starts");
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{program} {args:?} failed: {}\n{out}\n{err}", done.status);
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    out.lines().map(line).collect()
}

/// Asserts that a line is of a case on SQLite, and that all it has beside, but for words, are numbers with these names.
#[track_caller]
fn assert_figures(line: &Map<String, Value>, case: &str, figures: &[&str]) {
    assert_eq!(line["case"], case, "{line:?}");
    assert_eq!(line["store"], "sqlite", "{line:?}");
    let numbers: Vec<&str> =
        line.iter().filter(|(_, value)| value.is_number()).map(|(name, _)| name.as_str()).collect();
    let mut figures = figures.to_vec();
    figures.sort_unstable();
    assert_eq!(numbers, figures, "{line:?}");
}

/// Asserts that figures of a line are above zero.
#[track_caller]
fn assert_positive(line: &Map<String, Value>, figures: &[&str]) {
    for figure in figures {
        assert!(line[*figure].as_f64() > Some(0.0), "{figure} of {line:?}");
    }
}

#[test]
fn bench_prints_a_line_for_each_case() {
    let args = ["drain", "enqueue", "latency", "fairness", "--json", "--store", "sqlite", "--rounds", "1"];
    let small = ["--deliveries", "3000", "--seconds", "0.2", "--idle-seconds", "0.2"];
    let lines = lines(env!("CARGO_BIN_EXE_bench"), &[&args[..], &small].concat());
    let [drain, enqueue, latency, cold, fairness] = &lines[..] else { panic!("five lines: {lines:?}") };
    assert_figures(drain, "drain", &["evented", "limit", "ratio", "limit_merged"]);
    assert_positive(drain, &["evented", "limit", "ratio", "limit_merged"]);
    assert_figures(enqueue, "enqueue", &["evented", "limit", "ratio", "emitters"]);
    assert_positive(enqueue, &["evented", "limit", "ratio"]);
    assert_figures(latency, "latency", &["p50_ms", "p99_ms", "commit_ms"]);
    assert_positive(latency, &["p50_ms", "p99_ms", "commit_ms"]);
    assert_figures(cold, "cold", &["ms", "worst_ms", "idle_seconds"]);
    assert_positive(cold, &["ms", "worst_ms"]);
    assert_figures(fairness, "fairness", &["first_ms", "backlog"]);
    assert_positive(fairness, &["first_ms"]);
    for line in &lines {
        assert_eq!(line["durability"], "synchronous=full");
    }
}

#[test]
fn bench_names_the_cases_that_there_are() {
    let done = Command::new(env!("CARGO_BIN_EXE_bench")).arg("drian").output().expect("the program starts");
    assert!(!done.status.success());
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("`drian` is no case; there are drain, enqueue, latency, fairness"), "{said}");
}

#[test]
fn idle_prints_what_an_idle_worker_costs() {
    let lines = lines(env!("CARGO_BIN_EXE_idle"), &["--json", "--store", "sqlite", "--seconds", "6"]);
    let [idle] = &lines[..] else { panic!("one line: {lines:?}") };
    assert_figures(idle, "idle", &["statements_per_second", "cpu_percent"]);
    // A worker looks by itself each 5 seconds; one that nobody counted would have no statements.
    assert_positive(idle, &["statements_per_second"]);
}

#[test]
fn survive_finds_all_that_was_acknowledged_after_a_kill() {
    let faults = ["worker_killed", "emitter_killed"];
    let args = ["--store", "sqlite", "--seconds", "0.3", "--fault", &faults.join(",")];
    let lines = lines(env!("CARGO_BIN_EXE_survive"), &args);
    assert_eq!(lines.len(), faults.len(), "{lines:?}");
    for (line, fault) in lines.iter().zip(faults) {
        assert_figures(line, "survive", &["emitted", "lost", "twice", "seconds_to_resume"]);
        assert_eq!(line["fault"], fault);
        assert_eq!(line["lost"], 0);
        assert_positive(line, &["emitted"]);
    }
}

#[test]
fn outbox_finds_all_that_was_committed_after_kills_and_nothing_else() {
    let lines = lines(env!("CARGO_BIN_EXE_outbox"), &["--kill", "--store", "sqlite", "--seconds", "1"]);
    let [line] = &lines[..] else { panic!("one line: {lines:?}") };
    let none = ["lost", "ghosts", "effects_twice"];
    let some = ["committed", "rolled_back", "kills"];
    assert_figures(line, "outbox", &[&none[..], &some, &["handled_twice_without_tx", "seed"]].concat());
    assert_positive(line, &some);
    for figure in none {
        assert_eq!(line[figure], 0, "{figure} of {line:?}");
    }
}

#[test]
fn outbox_prints_how_fast_it_is_with_few_and_many_events_in_a_transaction() {
    let args = ["--speed", "--store", "sqlite", "--rounds", "1", "--events", "400", "--seconds", "0.1"];
    let lines = lines(env!("CARGO_BIN_EXE_outbox"), &args);
    let cases: Vec<_> = lines.iter().map(|line| (&line["per_transaction"], &line["tx_handler"])).collect();
    assert_eq!(serde_json::json!(cases), serde_json::json!([[100, false], [1, false], [100, true], [1, true]]));
    let speeds = ["events_per_second", "raw_inserts_per_second"];
    let latencies = ["commit_to_handler_ms_p50", "commit_to_handler_ms_p99", "commit_ms"];
    for line in &lines {
        assert_figures(line, "outbox-speed", &[&speeds[..], &latencies, &["per_transaction"]].concat());
        assert_positive(line, &[&speeds[..], &latencies].concat());
    }
}

/// Asserts that a program refuses these arguments at once, and says what there is.
#[track_caller]
fn assert_refused(program: &str, args: &[&str], what: &str) {
    let done = Command::new(program).args(args).output().expect("the program starts");
    assert!(!done.status.success(), "{args:?}");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains(what), "{args:?}: {said}");
}

/// How it runs takes minutes, and is no test.
#[test]
fn outage_names_the_outages_that_there_are() {
    let program = env!("CARGO_BIN_EXE_outage");
    assert_refused(program, &["--by", "fire"], "`fire` is no outage; there are `cut` and `hang`");
    assert_refused(program, &["--store", "mysql"], "`mysql` is no store; there are `sqlite`, `postgres` and `redis`");
    assert_refused(program, &["--lease-seconds", "-1"], "`--lease-seconds -1`");
}

/// The same.
#[test]
fn poison_names_the_kinds_that_there_are() {
    let program = env!("CARGO_BIN_EXE_poison");
    let kinds = "`cake` is no poison; there are `handler`, `decoder`, `hang` and `all`";
    assert_refused(program, &["--kind", "cake"], kinds);
    assert_refused(program, &["--seeds", "0"], "`--seeds` is one at the least");
    assert_refused(program, &["--store", "mysql"], "`mysql` is no store; there are `sqlite`, `postgres` and `redis`");
}

#[test]
fn growth_measures_each_table_three_times_and_says_which_is_flat() {
    let lines = lines(env!("CARGO_BIN_EXE_growth"), &["--store", "sqlite", "--seconds", "4", "--rate", "100"]);
    let of = |case: &str| lines.iter().filter(move |line| line["case"] == case).collect::<Vec<_>>();
    let (marks, verdicts) = (of("growth"), of("verdict"));
    for line in &marks {
        assert_figures(line, "growth", &["at_s", "rows", "bytes"]);
        // What is in the log of writes alone has no bytes in the file yet.
        assert_positive(line, &["at_s"]);
    }
    let tables: Vec<_> = verdicts.iter().map(|line| line["table"].as_str().expect("a name")).collect();
    for table in ["queue.evented_deliveries", "queue.evented_once", "outbox.evented_outbox", "outbox.evented_inbox"] {
        assert!(tables.contains(&table), "{table} is not measured: {tables:?}");
        assert_eq!(marks.iter().filter(|line| line["table"] == table).count(), 3, "{table}");
    }
    for line in &verdicts {
        assert_figures(line, "verdict", &["grown", "explained", "bytes_grown"]);
        assert_eq!(line["flat"], true, "{line:?}");
    }
    let last = of("lag").pop().expect("it looks at what waits");
    assert_figures(last, "lag", &["at_s", "waiting", "running", "done", "dead", "due_for_s"]);
    assert_positive(last, &["done", "dead"]);
}
