//! The application's pool is looked at when the outbox opens: what cannot be worked with is refused by name, what can be overridden is,
//! and what a commit survives is told of the pool.

use evented::{
    ErrorKind,
    prelude::*,
    sqlx::{
        MySqlPool, PgPool, Pool, SqlitePool,
        mysql::MySqlPoolOptions,
        postgres::PgPoolOptions,
        query, query_scalar, raw_sql,
        sqlite::{SqliteConnectOptions, SqliteLockingMode, SqlitePoolOptions, SqliteSynchronous},
    },
};
use evented_tests::{
    Place,
    servers::{Mariadb, Postgres as PostgresServer},
};
use serde::{Deserialize, Serialize};

#[event(transactional)]
#[derive(Serialize, Deserialize)]
struct Pooled {
    entry: i64,
}

#[handler(Pooled, outbox)]
async fn heed(_event: Pooled) {}

async fn start<Db: evented::Outboxed>(pool: Pool<Db>) -> Result<evented::App, evented::Error> {
    evented::run().install(false).module(module_path!()).outbox(pool).role(evented::Role::Emit).await
}

async fn refused<Db: evented::Outboxed>(pool: Pool<Db>, words: &[&str]) {
    let error = start(pool).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Boot);
    for word in words {
        assert!(error.to_string().contains(word), "no `{word}` in: {error}");
    }
}

async fn sqlite(place: &Place) -> SqliteConnectOptions {
    let pool = place.pool().await;
    let options = (*pool.connect_options()).clone();
    pool.close().await;
    options
}

async fn promise<Db: evented::Outboxed>(pool: Pool<Db>) -> String {
    Db::open(pool).await.unwrap().about.promise().to_owned()
}

#[tokio::test]
async fn a_pool_that_keeps_others_out_of_its_file_is_refused() {
    let place = Place::new();
    let options = sqlite(&place).await.locking_mode(SqliteLockingMode::Exclusive);
    refused(SqlitePool::connect_with(options).await.unwrap(), &["`locking_mode = exclusive`", "open it without"]).await;
}

#[tokio::test]
async fn a_pool_that_only_reads_is_refused_on_sqlite() {
    let place = Place::new();
    let options = sqlite(&place).await;
    let read_only = SqlitePool::connect_with(options.clone().read_only(true)).await.unwrap();
    refused(read_only, &["read only", "`.read_only(true)`"]).await;
    let pool = SqlitePoolOptions::new().after_connect(|conn, _| {
        Box::pin(async move {
            raw_sql("pragma query_only = on").execute(conn).await?;
            Ok(())
        })
    });
    refused(pool.connect_with(options).await.unwrap(), &["`pragma query_only = on`", "open it without"]).await;
}

/// What the pool's options say of ours is overridden.
#[tokio::test]
async fn connections_of_evented_work_whatever_the_pool_s_options_say_on_sqlite() {
    for (pragma, value) in [
        ("query_only", "on"),
        ("read_uncommitted", "on"),
        ("case_sensitive_like", "on"),
        ("ignore_check_constraints", "on"),
    ] {
        works(|options| options.pragma(pragma, value), pragma).await;
    }
    works(|options| options.shared_cache(true), "shared cache").await;
}

async fn works(set: impl Fn(SqliteConnectOptions) -> SqliteConnectOptions, what: &str) {
    let place = Place::new();
    // The application's own connections write.
    let pool = SqlitePoolOptions::new().max_connections(2).after_connect(|conn, _| {
        Box::pin(async move {
            raw_sql("pragma query_only = off").execute(conn).await?;
            Ok(())
        })
    });
    let pool = pool.connect_with(set(sqlite(&place).await)).await.unwrap();
    let app = evented::run().install(false).module(module_path!()).outbox(pool.clone()).await;
    let app = app.unwrap_or_else(|error| panic!("{what}: {error}"));
    for entry in 0..20 {
        let mut tx = evented::begin(&pool).await.unwrap();
        app.emit_in(&mut tx, Pooled { entry }).await.unwrap();
        tx.commit().await.unwrap();
    }
    app.until_idle().await.unwrap();
    assert_eq!(evented_tests::count_of(&app, "Pooled/heed").await.done, 20, "{what}");
}

#[tokio::test]
async fn the_promise_is_that_of_the_pool_s_connections_on_sqlite() {
    let place = Place::new();
    let options = sqlite(&place).await.synchronous(SqliteSynchronous::Full);
    let pool = SqlitePool::connect_with(options.clone()).await.unwrap();
    assert!(promise(pool).await.starts_with("synchronous=full"));
    let pool = SqlitePool::connect_with(options.clone().synchronous(SqliteSynchronous::Normal)).await.unwrap();
    assert!(promise(pool).await.starts_with("synchronous=normal"));
    let pool = SqlitePoolOptions::new().after_connect(|conn, _| {
        Box::pin(async move {
            raw_sql("pragma synchronous = off").execute(conn).await?;
            Ok(())
        })
    });
    assert!(promise(pool.connect_with(options).await.unwrap()).await.starts_with("synchronous=off"));
}

#[tokio::test]
async fn a_pool_that_cannot_connect_is_an_error_also_where_it_would_later() {
    let options = SqliteConnectOptions::new().filename("/there/is/no/such.db");
    refused(SqlitePool::connect_lazy_with(options), &["there is no folder `/there/is/no`"]).await;
}

/// Nothing is known of it then, and nothing is refused.
#[tokio::test]
async fn a_pool_whose_connections_are_all_in_use_is_started_with() {
    let place = Place::new();
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(sqlite(&place).await).await.unwrap();
    let held = pool.acquire().await.unwrap();
    start(pool.clone()).await.unwrap();
    drop(held);
}

macro_rules! after_connect {
    ($options:ty, $url:expr, $sql:expr) => {
        <$options>::new()
            .max_connections(2)
            .after_connect(|conn, _| {
                Box::pin(async move {
                    raw_sql($sql).execute(conn).await?;
                    Ok(())
                })
            })
            .connect($url)
            .await
            .unwrap()
    };
}

fn postgres() -> Option<String> {
    tokio::task::block_in_place(|| Some(PostgresServer::shared()?.database()))
}

fn mysql() -> Option<String> {
    tokio::task::block_in_place(|| Some(Mariadb::shared()?.database()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_hides_evented_s_tables_is_refused_on_postgres() {
    let Some(url) = postgres() else { return };
    raw_sql("create schema apart").execute(&PgPool::connect(&url).await.unwrap()).await.unwrap();
    let pool = after_connect!(PgPoolOptions, &url, "set search_path = apart");
    refused(pool, &["search path", "`apart`", "`public`", "PgConnectOptions::options"]).await;
    // One that finds them is not.
    start(after_connect!(PgPoolOptions, &url, "set search_path = apart, public")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_whose_role_may_not_write_is_refused_on_postgres() {
    let Some(url) = postgres() else { return };
    let role = "drop role if exists evented_reads; create role evented_reads";
    raw_sql(role).execute(&PgPool::connect(&url).await.unwrap()).await.unwrap();
    refused(after_connect!(PgPoolOptions, &url, "set role evented_reads"), &["cannot write", "may insert"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_reads_by_default_emits_all_the_same_on_postgres() {
    let Some(url) = postgres() else { return };
    let pool = after_connect!(PgPoolOptions, &url, "set default_transaction_read_only = on");
    let app = start(pool.clone()).await.unwrap();
    let mut tx = evented::begin(&pool).await.unwrap();
    app.emit_in(&mut tx, Pooled { entry: 1 }).await.unwrap();
    tx.commit().await.unwrap();
    let rows: i64 = query_scalar("select count(*) from evented_outbox").fetch_one(&pool).await.unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_promise_is_that_of_the_pool_s_connections_on_postgres() {
    let Some(url) = postgres() else { return };
    assert!(promise(PgPool::connect(&url).await.unwrap()).await.starts_with("synchronous_commit=on"));
    let pool = after_connect!(PgPoolOptions, &url, "set synchronous_commit = off");
    assert!(promise(pool).await.starts_with("synchronous_commit=off"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_moves_to_another_database_is_refused_on_mysql() {
    let Some(url) = mysql() else { return };
    refused(after_connect!(MySqlPoolOptions, &url, "use mysql"), &["another database", "`after_connect`"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_reads_by_default_emits_all_the_same_on_mysql() {
    let Some(url) = mysql() else { return };
    let pool = after_connect!(MySqlPoolOptions, &url, "set session transaction read only");
    let app = start(pool.clone()).await.unwrap();
    let mut tx = evented::begin(&pool).await.unwrap();
    app.emit_in(&mut tx, Pooled { entry: 1 }).await.unwrap();
    tx.commit().await.unwrap();
    let rows: i64 = query_scalar("select count(*) from evented_outbox").fetch_one(&pool).await.unwrap();
    assert_eq!(rows, 1);
}

/// What the docs of `begin` tell a pool to do with what comes back: a transaction that nobody ended is not seen again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_checks_what_comes_back_keeps_no_transaction_on_postgres() {
    let Some(url) = postgres() else { return };
    let checked = PgPoolOptions::new().max_connections(1).after_release(|conn, _| {
        Box::pin(async move {
            let sql = "select transaction_timestamp() = statement_timestamp()";
            evented::sqlx::Row::try_get(&raw_sql(sql).fetch_one(conn).await?, 0)
        })
    });
    let pool = checked.connect(&url).await.unwrap();
    query("create table ledger (entry int8 not null)").execute(&pool).await.unwrap();
    let pid: i32 = query_scalar("select pg_backend_pid()").fetch_one(&pool).await.unwrap();
    let mut tx = evented::begin(&pool).await.unwrap();
    raw_sql("insert into ledger values (0)").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let same: i32 = query_scalar("select pg_backend_pid()").fetch_one(&pool).await.unwrap();
    assert_eq!(same, pid, "a connection that is in none stays");
    let mut conn = pool.acquire().await.unwrap();
    raw_sql("begin").execute(&mut *conn).await.unwrap();
    raw_sql("insert into ledger values (1)").execute(&mut *conn).await.unwrap();
    drop(conn);
    query("insert into ledger values (2)").execute(&pool).await.unwrap();
    pool.close().await;
    let pool = PgPool::connect(&url).await.unwrap();
    let found: Vec<i64> = query_scalar("select entry from ledger order by entry").fetch_all(&pool).await.unwrap();
    assert_eq!(found, [0, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_checks_what_comes_back_keeps_no_transaction_on_mysql() {
    let Some(url) = mysql() else { return };
    let checked = MySqlPoolOptions::new().max_connections(1).after_release(|conn, _| {
        Box::pin(async move {
            raw_sql("rollback").execute(conn).await?;
            Ok(true)
        })
    });
    let pool = checked.connect(&url).await.unwrap();
    query("create table ledger (entry bigint not null)").execute(&pool).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    raw_sql("begin").execute(&mut *conn).await.unwrap();
    raw_sql("insert into ledger values (1)").execute(&mut *conn).await.unwrap();
    drop(conn);
    query("insert into ledger values (2)").execute(&pool).await.unwrap();
    pool.close().await;
    let pool = MySqlPool::connect(&url).await.unwrap();
    let found: Vec<i64> = query_scalar("select entry from ledger").fetch_all(&pool).await.unwrap();
    assert_eq!(found, [2]);
}
