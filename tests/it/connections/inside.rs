//! A pool that holds a connection inside a transaction: `begin` and handlers are never given it.

use std::time::Duration;

use evented::sqlx::{
    Connection as _, MySqlPool, PgPool, SqlitePool, mysql::MySqlPoolOptions, postgres::PgPoolOptions, query,
    query_scalar, raw_sql, sqlite::SqlitePoolOptions,
};
use evented_tests::{
    Place,
    servers::{Mariadb, Postgres as PostgresServer},
};

/// A pool of one connection, on which somebody began by hand, wrote, and went away.
macro_rules! left_inside {
    ($pool:expr) => {{
        let mut conn = $pool.acquire().await.unwrap();
        raw_sql("begin").execute(&mut *conn).await.unwrap();
        raw_sql("insert into ledger (entry) values (1)").execute(&mut *conn).await.unwrap();
        drop(conn);
        let mut tx = evented::begin(&$pool).await.unwrap();
        raw_sql("insert into ledger (entry) values (2)").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        $pool.close().await;
    }};
}

async fn sqlite() -> (Place, SqlitePool) {
    let place = Place::new();
    let pool = place.pool().await;
    let one = SqlitePoolOptions::new().max_connections(1);
    let one = one.connect_with((*pool.connect_options()).clone()).await.unwrap();
    (place, one)
}

async fn postgres() -> Option<(String, PgPool)> {
    let url = tokio::task::block_in_place(|| Some(PostgresServer::shared()?.database()))?;
    let pool = PgPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
    query("create table ledger (entry int8 not null)").execute(&pool).await.unwrap();
    Some((url, pool))
}

async fn mysql() -> Option<(String, MySqlPool)> {
    let url = tokio::task::block_in_place(|| Some(Mariadb::shared()?.database()))?;
    let pool = MySqlPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
    query("create table ledger (entry bigint not null)").execute(&pool).await.unwrap();
    Some((url, pool))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn begin_hands_out_no_connection_that_is_inside_a_transaction_on_sqlite() {
    let (place, pool) = sqlite().await;
    left_inside!(pool);
    let found: Vec<i64> = query_scalar("select entry from ledger").fetch_all(&place.pool().await).await.unwrap();
    assert_eq!(found, [2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn begin_hands_out_no_connection_that_is_inside_a_transaction_on_postgres() {
    let Some((url, pool)) = postgres().await else { return };
    left_inside!(pool);
    let pool = PgPool::connect(&url).await.unwrap();
    let found: Vec<i64> = query_scalar("select entry from ledger").fetch_all(&pool).await.unwrap();
    assert_eq!(found, [2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn begin_hands_out_no_connection_that_is_inside_a_transaction_on_mysql() {
    let Some((url, pool)) = mysql().await else { return };
    left_inside!(pool);
    let pool = MySqlPool::connect(&url).await.unwrap();
    let found: Vec<i64> = query_scalar("select entry from ledger").fetch_all(&pool).await.unwrap();
    assert_eq!(found, [2]);
}

/// Gives `begin` up at every await of it, then uses the pool without a transaction.
macro_rules! given_up {
    ($pool:expr) => {{
        let mut given_up = 0;
        for polls in 0..40 {
            let mut polled = 0;
            let mut begin = Box::pin(evented::begin(&$pool));
            let done = std::future::poll_fn(|context| {
                polled += 1;
                if polled > polls {
                    return std::task::Poll::Ready(None);
                }
                begin.as_mut().poll(context).map(Some)
            })
            .await;
            given_up += usize::from(done.is_none());
            drop(begin);
            drop(done);
            query("insert into ledger (entry) values (1)").execute(&$pool).await.unwrap();
        }
        assert!(given_up > 0);
        // What was acknowledged is there for others.
        $pool.close().await;
    }};
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_begin_that_was_given_up_leaves_no_transaction_behind_on_sqlite() {
    let (place, pool) = sqlite().await;
    given_up!(pool);
    let found: i64 = query_scalar("select count(*) from ledger").fetch_one(&place.pool().await).await.unwrap();
    assert_eq!(found, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_begin_that_was_given_up_leaves_no_transaction_behind_on_postgres() {
    let Some((url, pool)) = postgres().await else { return };
    given_up!(pool);
    let pool = PgPool::connect(&url).await.unwrap();
    let found: i64 = query_scalar("select count(*) from ledger").fetch_one(&pool).await.unwrap();
    assert_eq!(found, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_begin_that_was_given_up_leaves_no_transaction_behind_on_mysql() {
    let Some((url, pool)) = mysql().await else { return };
    given_up!(pool);
    let pool = MySqlPool::connect(&url).await.unwrap();
    let found: i64 = query_scalar("select count(*) from ledger").fetch_one(&pool).await.unwrap();
    assert_eq!(found, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_answers_ok_only_where_the_transaction_was_still_open() {
    let Some((url, pool)) = postgres().await else { return };
    let mut tx = evented::begin(&pool).await.unwrap();
    raw_sql("insert into ledger values (1)").execute(&mut *tx).await.unwrap();
    raw_sql("select 1 / 0").execute(&mut *tx).await.unwrap_err();
    // In a transaction that has failed no savepoint can be set: sqlx rolls all of it back then.
    tx.begin().await.map(drop).unwrap_err();
    raw_sql("insert into ledger values (2)").execute(&mut *tx).await.unwrap();
    let error = tx.commit().await.unwrap_err();
    assert!(error.to_string().contains("is not committed"), "{error}");
    tokio::time::timeout(Duration::from_secs(10), evented::begin(&pool)).await.unwrap().unwrap();
    drop(url);
}

/// A savepoint that is dropped is rolled back by and by: the commit that follows waits for that.
#[tokio::test]
async fn a_commit_waits_for_a_savepoint_that_was_dropped() {
    let place = Place::new();
    let pool = place.pool().await;
    for entry in 0..50 {
        let mut tx = evented::begin(&pool).await.unwrap();
        query("insert into ledger values (?)").bind(entry).execute(&mut *tx).await.unwrap();
        let mut savepoint = tx.begin().await.unwrap();
        query("insert into ledger values (-1)").execute(&mut *savepoint).await.unwrap();
        drop(savepoint);
        tx.commit().await.unwrap();
    }
    let kept: Vec<i64> = query_scalar("select entry from ledger").fetch_all(&pool).await.unwrap();
    assert_eq!(kept, (0..50).collect::<Vec<_>>());
}
