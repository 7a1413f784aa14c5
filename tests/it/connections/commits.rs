//! A commit answers `Ok` only where something was committed: not after a failed statement on Postgres.

use evented::sqlx::{
    MySqlPool, PgPool, mysql::MySqlPoolOptions, postgres::PgPoolOptions, query, query_scalar, raw_sql,
};
use evented_tests::servers::{Mariadb, Postgres as PostgresServer};

/// A pool of one connection and a table with two rows.
async fn postgres() -> Option<PgPool> {
    let url = tokio::task::block_in_place(|| Some(PostgresServer::shared()?.database()))?;
    let pool = PgPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
    raw_sql("create table ledger (entry int8 not null)").execute(&pool).await.unwrap();
    Some(pool)
}

async fn mysql() -> Option<MySqlPool> {
    let url = tokio::task::block_in_place(|| Some(Mariadb::shared()?.database()))?;
    let pool = MySqlPoolOptions::new().max_connections(2).connect(&url).await.unwrap();
    raw_sql("create table ledger (entry bigint not null primary key, paid int not null default 0); insert into ledger (entry) values (1), (2)")
        .execute(&pool)
        .await
        .unwrap();
    Some(pool)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_after_an_error_that_was_ignored_is_an_error_on_postgres() {
    let Some(pool) = postgres().await else { return };
    let mut tx = evented::begin(&pool).await.unwrap();
    raw_sql("insert into ledger values (1)").execute(&mut *tx).await.unwrap();
    raw_sql("select 1 / 0").execute(&mut *tx).await.unwrap_err();
    let error = tx.commit().await.unwrap_err();
    assert_eq!(error.as_database_error().unwrap().code().unwrap(), "25P02", "{error}");
    let found: i64 = query_scalar("select count(*) from ledger").fetch_one(&pool).await.unwrap();
    assert_eq!(found, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_after_the_transaction_was_ended_by_a_statement_is_an_error_on_postgres() {
    let Some(pool) = postgres().await else { return };
    let mut tx = evented::begin(&pool).await.unwrap();
    raw_sql("insert into ledger values (1)").execute(&mut *tx).await.unwrap();
    raw_sql("rollback").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap_err();
    let found: i64 = query_scalar("select count(*) from ledger").fetch_one(&pool).await.unwrap();
    assert_eq!(found, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_gives_its_connection_back_in_no_transaction_on_postgres() {
    let Some(pool) = postgres().await else { return };
    let pid: i32 = query_scalar("select pg_backend_pid()").fetch_one(&pool).await.unwrap();
    for entry in 1..=3_i64 {
        let mut tx = evented::begin(&pool).await.unwrap();
        raw_sql("insert into ledger values (1)").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        let found: i32 = query_scalar("select pg_backend_pid()").fetch_one(&pool).await.unwrap();
        assert_eq!(found, pid);
        // By itself, it is committed at once.
        query("insert into ledger values ($1)").bind(entry).execute(&pool).await.unwrap();
    }
    pool.close().await;
    let pool = PgPool::connect_with((*pool.connect_options()).clone()).await.unwrap();
    let found: i64 = query_scalar("select count(*) from ledger").fetch_one(&pool).await.unwrap();
    assert_eq!(found, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_gives_its_connection_back_in_no_transaction_on_mysql() {
    let Some(pool) = mysql().await else { return };
    let one = MySqlPoolOptions::new().max_connections(1).connect_with((*pool.connect_options()).clone()).await.unwrap();
    let id: u64 = query_scalar("select connection_id()").fetch_one(&one).await.unwrap();
    for _ in 0..3 {
        let mut tx = evented::begin(&one).await.unwrap();
        raw_sql("update ledger set paid = paid + 1 where entry = 1").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        let found: u64 = query_scalar("select connection_id()").fetch_one(&one).await.unwrap();
        assert_eq!(found, id);
        // By itself, it is committed at once.
        raw_sql("update ledger set paid = paid + 1 where entry = 2").execute(&one).await.unwrap();
    }
    let found: Vec<i32> = query_scalar("select paid from ledger order by entry").fetch_all(&pool).await.unwrap();
    assert_eq!(found, [3, 3]);
}
