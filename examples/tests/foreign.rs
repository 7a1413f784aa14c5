//! The example of another library's transactions, run on a server of its own.

use std::{env, process::Command};

use evented_tests::servers::Postgres;

#[test]
fn an_event_of_a_foreign_transaction_is_delivered_if_and_only_if_that_commits() {
    let Some(server) = Postgres::start(&[]) else { return };
    let test = env::current_exe().unwrap();
    let example = test.parent().unwrap().parent().unwrap().join("examples/foreign");
    let output = Command::new(example).arg(server.url()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let mut lines: Vec<_> = said.lines().collect();
    lines.sort_unstable();
    let seats = |line: &&&str| line.starts_with("the ticket") || line.ends_with("is taken");
    assert_eq!(
        lines.iter().filter(seats).copied().collect::<Vec<_>>(),
        [
            "seat 17 is taken",
            "the ticket for seat 17 is printed",
            "the ticket for seat 18 is printed",
            "the ticket for seat 19 is printed"
        ]
    );
    // The handlers of the events run side by side, so each seat may be the last.
    let counts: Vec<_> = lines.iter().filter_map(|line| line.split_once(" sold, the last one")).collect();
    assert_eq!(counts.iter().map(|(count, _)| *count).collect::<Vec<_>>(), ["1", "2", "3"], "{said}");
}
