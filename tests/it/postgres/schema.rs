//! Tables of earlier releases, and tables that a person has spoilt: how they are brought up, also beside processes that run.

use std::time::Duration;

use evented::{
    sqlx::{Connection, PgConnection, query, query_as},
    store::open_outbox,
};
use evented_tests::{DEADLINE, count_of, eventually, servers::Postgres};
use tokio::time::timeout;

/// From the tables of this release to those of the one before.
const THIRD: &str = "drop table evented_sessions;
    alter table evented_deliveries drop column session, drop column died_with, drop column charges, drop column suspect,
        drop column pending;
    update evented_schema set version = 3;";

/// From there to the second, an application's: a queue and an outbox.
const SECOND: &str = "drop table evented_outbox_keys;
    alter table evented_schema drop column id, drop column feeds; alter table evented_handlers drop column stored,
        drop column running, drop column retired_at;
    alter table evented_counts drop column num, drop column stored, drop column running;
    alter table evented_deliveries drop constraint evented_deliveries_id;
    create unique index evented_deliveries_id on evented_deliveries (id);
    alter table evented_outbox drop column target, drop column handlers, drop column error;
    alter table evented_outbox rename column held to lease;
    create index evented_outbox_due on evented_outbox (due_at, seq);
    update evented_schema set version = 2, min_compatible = 1;";

/// From there to the first, a queue alone.
const FIRST: &str = "drop table evented_outbox, evented_inbox; alter table evented_schema drop column identity;
    update evented_schema set version = 1";

/// A handler with two deliveries, of which one runs.
const DELIVERIES: &str =
    "insert into evented_handlers (id, event, route, queue, attempts_max, backoff_first_ms, timeout_ms, aliases, event_aliases)
        values ('old', 'Old', 'background', 'default', 3, 1, 1000, '{}', '{}');
    insert into evented_deliveries (due_at, emitted_at, timeout_ms, backoff_first_ms, lease, handler, version,
        attempts_max, id, event_id, payload)
        select 9000000000000, 1, 1000, 1, nullif(n, 1), (select num from evented_handlers where id = 'old'), 1, 3,
            decode(lpad(n::text, 32, '0'), 'hex'), decode(lpad('7', 32, '0'), 'hex'), '' from generate_series(1, 2) n";

const EMIT: &str = "insert into evented_outbox (due_at, emitted_at, version, event_id, event, payload)
    values (9000000000000, 1, 1, decode(md5(random()::text), 'hex'), 'Old', '')";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_earlier_releases_are_brought_up() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let pool = evented::sqlx::PgPool::connect(&url).await.unwrap();
    let start = || {
        let run = evented::run().install(false).module("no_module_of_this_name").role(evented::Role::Emit);
        run.queue(&url).outbox(pool.clone())
    };
    start().await.unwrap().stop().await;
    server.ask(&url, &format!("{THIRD} {SECOND} {DELIVERIES}; {EMIT}; update evented_outbox set lease = 77")).unwrap();
    let app = start().await.unwrap();
    let count = count_of(&app, "old").await;
    assert_eq!((count.waiting, count.running), (1, 1), "what was there is counted");
    let rows = "select count(*), count(held), max(due_at) from evented_outbox";
    assert_eq!(server.ask(&url, rows).unwrap(), "1|0|0", "what a relay of that release had in hand is to be relayed");
    // A process of that release goes on beside this one: it emits, and relays nothing.
    server.ask(&url, EMIT).unwrap();
    let leases = "update evented_outbox o set lease = n.lease, due_at = 1 from (select 1 as seq, 1 as lease) n where o.seq = n.seq";
    let refused = server.ask(&url, leases).unwrap_err();
    assert!(refused.contains("column \"lease\""), "{refused}");
    app.stop().await;
    server.ask(&url, &format!("{THIRD} {SECOND} {FIRST}")).unwrap();
    let app = start().await.unwrap();
    let mut conn = PgConnection::connect(&url).await.unwrap();
    let sql = "select version, min_compatible from evented_schema";
    let versions: (i64, i64) = query_as(sql).fetch_one(&mut conn).await.unwrap();
    assert_eq!(versions, (4, 3), "older code would count nothing");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_goes_on_where_a_person_dropped_the_table_that_says_what_the_others_are() {
    let Some(server) = Postgres::shared() else { return };
    for older in [String::new(), THIRD.to_owned(), format!("{THIRD} {SECOND}"), format!("{THIRD} {SECOND} {FIRST}")] {
        let url = server.database();
        drop(open_outbox(&url).await.unwrap());
        server.ask(&url, &format!("{older}; drop table evented_schema")).unwrap();
        let store = open_outbox(&url).await.unwrap_or_else(|error| panic!("after {older}: {error:?}"));
        let shape =
            "select count(*), max(id) from evented_schema where version = 4 and feeds is null and identity <> ''";
        assert_eq!(server.ask(&url, shape).unwrap(), "1|1");
        let keys =
            "select conname from pg_constraint where conrelid = 'evented_schema'::regclass and contype in ('p', 'c')";
        assert_eq!(
            server.ask(&url, &format!("{keys} order by contype")).unwrap(),
            "evented_schema_id_check\nevented_schema_pkey"
        );
        crate::store::record(&store, [super::handler("mail")]).await;
        super::push(&store, super::delivery("order 17")).await.unwrap();
        assert_eq!(super::claim_from(&store, 1).await.unwrap().deliveries.len(), 1);
    }
}

/// Waits until a migration has begun to wait for something.
async fn until_a_migration_waits(server: &Postgres, url: &str) {
    let waits = "select count(*) from pg_locks l join pg_database d on d.oid = l.database
        where not l.granted and l.mode = 'AccessExclusiveLock' and d.datname = current_database()";
    eventually("the migration waits", async || server.ask(url, waits).unwrap() != "0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_behind_a_long_transaction_holds_nobody_up_for_long() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    drop(open_outbox(&url).await.unwrap());
    server.ask(&url, &format!("{THIRD} {SECOND}")).unwrap();
    let mut long = PgConnection::connect(&url).await.unwrap();
    let mut tx = long.begin().await.unwrap();
    query(EMIT).execute(&mut *tx).await.unwrap();
    let migrating = tokio::spawn({
        let url = url.clone();
        async move { open_outbox(&url).await }
    });
    until_a_migration_waits(server, &url).await;
    // What others do meanwhile.
    for round in 0..3 {
        for sql in ["select count(*) from evented_deliveries", EMIT, "delete from evented_counts"] {
            let done = server.ask(&url, &format!("set statement_timeout = '2s'; {sql}"));
            assert!(done.is_ok(), "in round {round}, {sql}: {done:?}");
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    assert!(!migrating.is_finished());
    tx.commit().await.unwrap();
    timeout(DEADLINE, migrating).await.expect("nothing is in its way now").unwrap().unwrap();
    let kept = "select count(*) > 3, count(target) from evented_outbox";
    assert_eq!(server.ask(&url, kept).unwrap(), "t|0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_and_a_transaction_that_goes_on_to_other_tables_both_come_to_their_end() {
    let Some(server) = Postgres::shared() else { return };
    for later in [Duration::ZERO, Duration::from_millis(600), Duration::from_millis(1_200)] {
        let url = server.database();
        drop(open_outbox(&url).await.unwrap());
        server.ask(&url, &format!("{THIRD} {SECOND}")).unwrap();
        let mut other = PgConnection::connect(&url).await.unwrap();
        let mut tx = other.begin().await.unwrap();
        query(EMIT).execute(&mut *tx).await.unwrap();
        let migrating = tokio::spawn({
            let url = url.clone();
            async move { open_outbox(&url).await }
        });
        until_a_migration_waits(server, &url).await;
        tokio::time::sleep(later).await;
        let tables =
            ["handlers", "counts", "deliveries", "order_keys", "unique", "once", "dead_letters", "queues", "inbox"];
        for table in tables {
            let sql = evented::sqlx::AssertSqlSafe(format!("delete from evented_{table}"));
            query(sql).execute(&mut *tx).await.unwrap_or_else(|error| panic!("{table}, after {later:?}: {error}"));
        }
        tx.commit().await.unwrap();
        timeout(DEADLINE, migrating).await.expect("nothing is in its way now").unwrap().unwrap();
    }
}
