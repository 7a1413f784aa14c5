//! The page of the documentation that says which store keeps which guarantee. To write it, run with `EVENTED_BLESS=1`.

use std::{env, fs, path::Path};

use evented::testing::{Column, outbox_promises, queue_promises, table};

use crate::contract::{mysql, postgres, redis, sqlite};

const PAGE: &str = "What a handler may rely on does not change with the store: a store is one when it passes the contract suite, \
    tests that are named by what they promise. A row is a guarantee, and a number how many tests show it on that store; `-` is \
    what only an outbox can have, which lies in the application's own database. The module `testing`, behind the feature \
    `testing`, has the suite for a store of your own, and says of each test which guarantee it shows.\n\n";

/// Each store by the sites over which the suites are run.
fn columns() -> [Column; 4] {
    [
        Column::new(
            "SQLite",
            "a crash of the process and a power cut with `synchronous=full`, which the queue has unless its URL says otherwise",
        )
        .passes(&queue_promises::<sqlite::Queue>())
        .passes(&outbox_promises::<sqlite::Outbox>()),
        Column::new(
            "Postgres",
            "a crash of the process and one of the server, with `fsync` and `synchronous_commit` on, as they are by default",
        )
        .passes(&queue_promises::<postgres::Queue>())
        .passes(&outbox_promises::<postgres::Outbox>()),
        Column::new(
            "MySQL, outbox alone",
            "a crash of the process, one of the server and a power cut with `innodb_flush_log_at_trx_commit=1`, as it is by default, and `sync_binlog=1` where there is a binary log",
        )
        .passes(&queue_promises::<mysql::Outbox>())
        .passes(&outbox_promises::<mysql::Outbox>()),
        Column::new(
            "Redis",
            "a crash of the process; one of the server with `appendonly yes` and `appendfsync always`, while `everysec` may lose the last two seconds, and a server without an append-only file all since its last snapshot",
        )
        .passes(&queue_promises::<redis::Queue>()),
    ]
}

#[test]
fn the_page_of_stores_shows_what_the_suite_checks() {
    let page = format!("{PAGE}{}", table(&columns()));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../evented/src/stores.md");
    if env::var_os("EVENTED_BLESS").is_some() {
        fs::write(&path, &page).expect("the page can be written");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let differs = written.lines().zip(page.lines()).find(|(written, page)| written != page);
    assert!(written == page, "the page is not what the suite says; run with EVENTED_BLESS=1: {differs:?}");
}

#[test]
fn every_guarantee_is_shown_by_several_promises() {
    let shown = table(&columns()[..1]);
    let rows: Vec<_> = shown.lines().skip(2).collect();
    let (survives, guarantees) = rows.split_last().expect("the table has rows");
    assert!(survives.contains("a power cut"), "{survives}");
    assert_eq!(guarantees.len(), evented::testing::Guarantee::ALL.len());
    for row in guarantees {
        let number: usize = row.split('|').nth(2).expect("a cell").trim().parse().expect("a number");
        assert!(number >= 2, "one test is no guarantee: {row}");
    }
}
