//! `emit_in` in transactions of every isolation, and of none that writes.

use evented::{
    ErrorKind,
    prelude::*,
    sqlx::{AssertSqlSafe, Connection as _, MySqlPool, PgPool},
};
use evented_tests::{
    Place, count_of,
    servers::{Mariadb, Postgres as PostgresServer},
};
use serde::{Deserialize, Serialize};

#[event(transactional)]
#[derive(Serialize, Deserialize)]
struct Isolated {
    entry: i64,
}

#[handler(Isolated, outbox)]
async fn heed(_event: Isolated) {}

const ISOLATIONS: [&str; 4] = ["read uncommitted", "read committed", "repeatable read", "serializable"];

macro_rules! in_every_mode {
    ($pool:expr, $app:expr, $begin:expr) => {{
        for (entry, isolation) in (0..).zip(ISOLATIONS) {
            let mut conn = $pool.acquire().await.unwrap();
            let mut tx = conn.begin_with(AssertSqlSafe($begin(isolation, "read write"))).await.unwrap();
            $app.emit_in(&mut tx, Isolated { entry }).await.unwrap_or_else(|error| panic!("{isolation}: {error}"));
            tx.commit().await.unwrap();
            let mut tx = conn.begin_with(AssertSqlSafe($begin(isolation, "read only"))).await.unwrap();
            let error = $app.emit_in(&mut tx, Isolated { entry }).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Database);
            let text = error.to_string();
            assert!(text.contains("is read only") && text.contains("`evented::begin(&pool)`"), "{text}");
        }
        $app.until_idle().await.unwrap();
        assert_eq!(count_of(&$app, "Isolated/heed").await.done, 4);
    }};
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emit_in_works_in_every_isolation_and_says_what_is_read_only_on_postgres() {
    let Some(url) = tokio::task::block_in_place(|| Some(PostgresServer::shared()?.database())) else { return };
    let (place, pool) = (Place::new(), PgPool::connect(&url).await.unwrap());
    let run = evented::run().install(false).module(module_path!()).queue(place.queue()).outbox(pool.clone());
    let app = run.await.unwrap();
    in_every_mode!(pool, app, |isolation, mode| format!("begin isolation level {isolation} {mode}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emit_in_works_in_every_isolation_and_says_what_is_read_only_on_mysql() {
    let Some(url) = tokio::task::block_in_place(|| Some(Mariadb::shared()?.database())) else { return };
    let (place, pool) = (Place::new(), MySqlPool::connect(&url).await.unwrap());
    let run = evented::run().install(false).module(module_path!()).queue(place.queue()).outbox(pool.clone());
    let app = run.await.unwrap();
    in_every_mode!(pool, app, |isolation, mode| format!(
        "set transaction isolation level {isolation}; start transaction {mode}"
    ));
}
