//! Two databases that one became, and processes of one application that name different queues.

use evented::{
    ErrorKind, Outboxed, Role,
    sqlx::{AssertSqlSafe, MySqlPool, PgPool, Pool, SqlitePool, query, query_scalar},
};
use evented_tests::{
    Place, Seen, open_pool,
    servers::{Mariadb, Postgres},
};
use tokio::task::block_in_place;

use super::{Told, old};

async fn start<Db: Outboxed>(queue: String, pool: &Pool<Db>) -> evented::Result<evented::App> {
    let run = evented::run().install(false).module(old::HERE).state(Seen::default()).role(Role::Emit);
    run.queue(queue).outbox(pool.clone()).await
}

/// An emit in a transaction of the copy is refused: the relay would look in the original for ever.
macro_rules! refuses {
    ($place:expr, $original:expr, $copy:expr) => {
        let app = start($place.queue(), &$original).await.unwrap();
        let mut tx = evented::begin(&$copy).await.unwrap();
        let error = app.emit_in(&mut tx, Told { number: 1 }).await.expect_err("the copy is another database");
        assert_eq!(error.kind(), ErrorKind::NoOutbox, "{error:?}");
        drop(tx);
        let mut tx = evented::begin(&$original).await.unwrap();
        app.emit_in(&mut tx, Told { number: 2 }).await.unwrap();
        tx.commit().await.unwrap();
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emit_in_a_database_made_of_this_one_as_a_template_is_refused() {
    let Some(postgres) = block_in_place(Postgres::shared) else { return };
    let (place, url) = (Place::new(), block_in_place(|| postgres.database()));
    let pool = PgPool::connect(&url).await.unwrap();
    start(place.queue(), &pool).await.unwrap().stop().await;
    pool.close().await;
    let name = url.rsplit('/').next().unwrap();
    let copy = format!("create database {name}_copy template {name}");
    evented_tests::eventually("nobody is connected any more", async || {
        block_in_place(|| postgres.ask(&postgres.url(), &copy)).is_ok()
    })
    .await;
    let (original, copy) =
        (PgPool::connect(&url).await.unwrap(), PgPool::connect(&format!("{url}_copy")).await.unwrap());
    refuses!(place, original, copy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emit_in_a_copied_file_is_refused() {
    let place = Place::new();
    let pool = place.pool().await;
    start(place.queue(), &pool).await.unwrap().stop().await;
    let copy = place.path("copy.db");
    query("vacuum into ?").bind(copy.to_str()).execute(&pool).await.unwrap();
    let copy: SqlitePool = open_pool(copy).await;
    refuses!(place, pool, copy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emit_in_a_database_restored_from_a_dump_of_this_one_is_refused() {
    let Some(mariadb) = block_in_place(Mariadb::shared) else { return };
    let place = Place::new();
    let (url, copy_url) = block_in_place(|| (mariadb.database(), mariadb.database()));
    let pool = MySqlPool::connect(&url).await.unwrap();
    start(place.queue(), &pool).await.unwrap().stop().await;
    let copy = MySqlPool::connect(&copy_url).await.unwrap();
    let name = url.rsplit('/').next().unwrap();
    let sql = "select table_name from information_schema.tables where table_schema = ? and table_name like 'evented%'";
    let tables: Vec<String> = query_scalar(sql).bind(name).fetch_all(&pool).await.unwrap();
    assert!(!tables.is_empty());
    for table in tables {
        for sql in [
            format!("create table {table} like {name}.{table}"),
            format!("insert into {table} select * from {name}.{table}"),
        ] {
            query(AssertSqlSafe(sql)).execute(&copy).await.unwrap();
        }
    }
    refuses!(place, pool, copy);
}

/// Two processes share an outbox, and name different queues: the second is refused, and both are named.
async fn is_refused<Db: Outboxed>(pool: Pool<Db>) {
    let place = Place::new();
    let queue = |name: &str| format!("sqlite:{}", place.path(name).display());
    let first = start(queue("one.db"), &pool).await.unwrap();
    let error = start(queue("other.db"), &pool).await.expect_err("it would relay its share elsewhere");
    assert_eq!(error.kind(), ErrorKind::Boot);
    let text = error.to_string();
    assert!(text.contains("one.db") && text.contains("other.db"), "{text}");
    // The same by the same name is let in.
    start(queue("one.db"), &pool).await.unwrap().stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_with_another_queue_is_refused_on_a_file() {
    let place = Place::new();
    is_refused(place.pool().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_with_another_queue_is_refused_on_postgres() {
    let Some(postgres) = block_in_place(Postgres::shared) else { return };
    is_refused(PgPool::connect(&block_in_place(|| postgres.database())).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_with_another_queue_is_refused_on_mysql() {
    let Some(mariadb) = block_in_place(Mariadb::shared) else { return };
    is_refused(MySqlPool::connect(&block_in_place(|| mariadb.database())).await.unwrap()).await;
}
