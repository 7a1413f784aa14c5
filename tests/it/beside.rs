//! What operators do to a database beside us: replication, row security, triggers, partitions, `vacuum full`. Everything works
//! before, meanwhile and after.

use std::time::Duration;

use evented::{
    App,
    prelude::*,
    sqlx::{PgPool, postgres::PgPoolOptions, query},
};
use evented_tests::{Seen, eventually, servers};
use serde::{Deserialize, Serialize};
use tokio::task::block_in_place;

#[event(transactional, id = "beside.sold")]
#[derive(Serialize, Deserialize)]
struct Sold {
    number: i64,
}

#[event(id = "beside.looked")]
#[derive(Serialize, Deserialize)]
struct Looked {
    number: i64,
}

#[handler(Sold, outbox(backoff(fixed = "10ms")), id = "beside.enter")]
async fn enter(event: Sold, tx: &mut Tx<Postgres>, delivery: Delivery) -> anyhow::Result<()> {
    query("insert into ledger (entry) values ($1)").bind(event.number).execute(&mut **tx).await?;
    anyhow::ensure!(event.number % 3 != 0 || delivery.attempt() > 1, "it fails at first");
    Ok(())
}

#[handler(Sold, background(ordered_by = "number"), id = "beside.ship")]
async fn ship(event: Sold, seen: State<Seen>) {
    seen.note(format!("ship {}", event.number));
}

#[handler(Looked, background(unique(key = "number", within = "1s")), id = "beside.count")]
async fn count(event: Looked, seen: State<Seen>) {
    seen.note(format!("count {}", event.number));
}

#[handler(Looked, background(retries = 0), id = "beside.fail")]
async fn fail(_event: Looked) -> anyhow::Result<()> {
    anyhow::bail!("it fails on purpose")
}

/// Events that a test goes through at once.
const EVENTS: i64 = 30;

struct Beside {
    server: Option<servers::Postgres>,
    url: String,
    pool: PgPool,
    seen: Seen,
}

impl Beside {
    /// A database, on a server with settings of its own where there are some.
    async fn new(settings: servers::Settings<'_>) -> Option<Self> {
        let server = block_in_place(|| servers::Postgres::start(settings))?;
        let url = block_in_place(|| server.database());
        let new = Self { pool: pool(&url).await, server: Some(server), url, seen: Seen::default() };
        new.does("create table ledger (entry int8 primary key)");
        Some(new)
    }

    fn does(&self, sql: &str) -> String {
        let server = self.server.as_ref().unwrap();
        block_in_place(|| server.ask(&self.url, sql)).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    async fn start(&self) -> App {
        let run = evented::run().install(false).module(module_path!()).state(self.seen.clone());
        // A relay and a queue in one database, as most have it.
        run.queue(&self.url).outbox(self.pool.clone()).lease(Duration::from_secs(5)).await.unwrap()
    }

    /// Emits, delivers, retries, buries, requeues, discards, pauses: all that writes.
    async fn works(&self, app: &App, first: i64) {
        for number in first..first + EVENTS {
            let mut tx = evented::begin(&self.pool).await.unwrap();
            app.emit_in(&mut tx, Sold { number }).await.unwrap();
            tx.commit().await.unwrap();
            app.emit(Looked { number }).await.unwrap();
        }
        app.pause("default").await.unwrap();
        app.resume("default").await.unwrap();
        app.until_idle().await.unwrap();
        for number in first..first + EVENTS {
            assert_eq!(
                (self.seen.count(&format!("ship {number}")), self.seen.count(&format!("count {number}"))),
                (1, 1)
            );
        }
        let entries = self.does(&format!("select count(*) from ledger where entry >= {first}"));
        assert_eq!(entries, EVENTS.to_string());
        let letter = app.dead_letters_of("beside.fail").await.unwrap().remove(0);
        assert!(app.requeue(letter.id).await.unwrap());
        app.until_idle().await.unwrap();
        assert_eq!(app.discard_all("beside.fail").await.unwrap(), EVENTS.unsigned_abs());
        eventually("it is well", async || app.health().is_ok()).await;
    }
}

async fn pool(url: &str) -> PgPool {
    PgPoolOptions::new().max_connections(6).connect(url).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_for_all_tables_stops_nothing() {
    let Some(beside) = Beside::new(&[("wal_level", "logical")]).await else { return };
    beside.does("create publication everything for all tables");
    let app = beside.start().await;
    beside.works(&app, 0).await;
    app.stop().await;
    // And one that comes later, on tables that are there.
    beside.does("drop publication everything");
    let app = beside.start().await;
    beside.works(&app, 100).await;
    beside.does("create publication everything for all tables");
    beside.works(&app, 200).await;
    let without = "select string_agg(relname, ', ') from pg_class c where relkind = 'r' and relname like 'evented%'
        and not exists (select from pg_index where indrelid = c.oid and indisprimary)";
    assert_eq!(beside.does(without), "", "tables without a primary key");
    app.stop().await;
}

/// All that row security can do without a policy is to hide every row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_security_that_is_forced_on_our_tables_is_worked_with_or_named() {
    let Some(mut beside) = Beside::new(&[]).await else { return };
    beside.does("create role shop login; alter table ledger owner to shop; alter schema public owner to shop");
    beside.url = beside.url.replace("postgres@", "shop@");
    beside.pool = pool(&beside.url).await;
    let app = beside.start().await;
    beside.works(&app, 0).await;
    app.stop().await;
    let admin = beside.url.replace("shop@", "postgres@");
    let tables = beside.does("select tablename from pg_tables where tablename like 'evented%'");
    let server = beside.server.as_ref().unwrap();
    for table in tables.lines() {
        let sql = format!(
            "alter table {table} enable row level security; alter table {table} force row level security;
            create policy all_of_it on {table} using (true) with check (true)"
        );
        block_in_place(|| server.ask(&admin, &sql)).unwrap();
    }
    let app = beside.start().await;
    beside.works(&app, 100).await;
    app.stop().await;
    for table in tables.lines() {
        block_in_place(|| server.ask(&admin, &format!("drop policy all_of_it on {table}"))).unwrap();
    }
    // Now no row is seen: it does not start, and says why.
    let run = evented::run().install(false).module(module_path!()).state(beside.seen.clone());
    let started = run.queue(&beside.url).outbox(beside.pool.clone()).await;
    let text = started.expect_err("nothing can be read or written").to_string();
    assert!(text.contains("row") && text.contains("security"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn triggers_partitions_and_a_full_vacuum_beside_us_stop_nothing() {
    let Some(beside) = Beside::new(&[]).await else { return };
    // A neighbour of ours in another schema and in this one, whose partitions bear names like ours.
    beside.does("create schema audit; create table audit.seen (name text, at timestamptz default now());
        create table audit.evented_outbox (at date, n int) partition by range (at);
        create table audit.evented_outbox_2026 partition of audit.evented_outbox for values from ('2026-01-01') to ('2027-01-01');
        create table evented_neighbour (at date not null, n int) partition by range (at);
        create table evented_neighbour_2026 partition of evented_neighbour for values from ('2026-01-01') to ('2027-01-01')");
    let app = beside.start().await;
    beside.works(&app, 0).await;
    beside.does(
        "create function audit.look() returns trigger language plpgsql as $$ begin
            insert into audit.seen (name) select tg_table_name; return null; end $$",
    );
    let tables =
        "select string_agg(tablename, ' ') from pg_tables where schemaname = 'public' and tablename like 'evented%'
        and tablename not like '%neighbour%'";
    let tables = beside.does(tables);
    for table in tables.split(' ') {
        beside.does(&format!(
            "create trigger looks after insert or update or delete on {table}
            for each row execute function audit.look()"
        ));
    }
    beside.works(&app, 100).await;
    assert_ne!(beside.does("select count(*) from audit.seen"), "0");
    // While it works, each table is rewritten under a lock that shuts everyone out.
    let (client, url) = (beside.server.as_ref().unwrap().client(), beside.url.clone());
    let vacuums = tokio::task::spawn_blocking(move || {
        for table in tables.split(' ').chain(tables.split(' ')) {
            client.ask(&url, &format!("vacuum full {table}")).unwrap();
        }
    });
    beside.works(&app, 200).await;
    vacuums.await.unwrap();
    beside.works(&app, 300).await;
    app.stop().await;
}
