//! Handlers with `&mut Tx` leave a part of the pool to the application.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use evented::{
    prelude::*,
    sqlx::{MySqlPool, PgPool, mysql::MySqlPoolOptions, postgres::PgPoolOptions, sqlite::SqlitePoolOptions},
};
use evented_tests::{
    Place, count_of,
    heard::heard,
    servers::{Mariadb, Postgres as PostgresServer},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Barrier;

/// Three quarters of a pool of four.
const TURNS: usize = 3;
const EVENTS: i64 = 63;

/// How many handlers run at once: three begin together, and each asks the pool for one more connection.
struct Together {
    running: AtomicUsize,
    most: AtomicUsize,
    three: Barrier,
}

impl Together {
    fn new() -> Arc<Self> {
        Arc::new(Self { running: AtomicUsize::new(0), most: AtomicUsize::new(0), three: Barrier::new(TURNS) })
    }

    async fn run<C>(&self, acquire: impl Future<Output = Result<C, evented::sqlx::Error>>) -> anyhow::Result<()> {
        self.most.fetch_max(self.running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.three.wait().await;
        // Where a fourth has the last connection, it waits for two others, and they for it.
        let one_more = tokio::time::timeout(Duration::from_secs(5), acquire).await??;
        self.running.fetch_sub(1, Ordering::Relaxed);
        drop(one_more);
        Ok(())
    }
}

#[event(transactional)]
#[derive(Serialize, Deserialize)]
struct Crowded {
    entry: i64,
}

macro_rules! leaves_one {
    ($url:expr, $options:ty, $queue:expr, $handler:literal) => {{
        let pool = <$options>::new().max_connections(4).connect($url).await.unwrap();
        let together = Together::new();
        let run = evented::run().install(false).module(module_path!()).queue($queue).outbox(pool.clone());
        let app = run.state(pool.clone()).state(Arc::clone(&together)).await.unwrap();
        let mut tx = evented::begin(&pool).await.unwrap();
        for entry in 0..EVENTS {
            app.emit_in(&mut tx, Crowded { entry }).await.unwrap();
        }
        tx.commit().await.unwrap();
        app.until_idle().await.unwrap();
        let count = count_of(&app, $handler).await;
        assert_eq!((count.done, count.dead), (63, 0));
        assert_eq!(together.most.load(Ordering::Relaxed), TURNS);
    }};
}

mod on_postgres {
    use super::*;

    #[handler(Crowded, outbox(retries = 0, concurrency = 64))]
    async fn heed(
        _: Crowded,
        _: &mut Tx<Postgres>,
        pool: State<PgPool>,
        together: State<Arc<Together>>,
    ) -> anyhow::Result<()> {
        together.run(pool.acquire()).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn transactional_handlers_leave_a_quarter_of_the_pool_on_postgres() {
        let Some(url) = tokio::task::block_in_place(|| Some(PostgresServer::shared()?.database())) else { return };
        let place = Place::new();
        leaves_one!(&url, PgPoolOptions, place.queue(), "Crowded/heed");
    }
}

mod on_mysql {
    use super::*;

    #[handler(Crowded, outbox(retries = 0, concurrency = 64))]
    async fn mind(
        _: Crowded,
        _: &mut Tx<MySql>,
        pool: State<MySqlPool>,
        together: State<Arc<Together>>,
    ) -> anyhow::Result<()> {
        together.run(pool.acquire()).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn transactional_handlers_leave_a_quarter_of_the_pool_on_mysql() {
        let Some(url) = tokio::task::block_in_place(|| Some(Mariadb::shared()?.database())) else { return };
        let place = Place::new();
        leaves_one!(&url, MySqlPoolOptions, place.queue(), "Crowded/mind");
    }
}

mod alone {
    use super::*;

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    struct Lonely;

    #[handler(Lonely, outbox)]
    async fn heed(_event: Lonely) {}

    #[tokio::test]
    async fn a_pool_of_one_connection_is_warned_of() {
        let heard = heard();
        let place = Place::new();
        let pool = place.pool().await;
        let one = SqlitePoolOptions::new().max_connections(1);
        let one = one.connect_with((*pool.connect_options()).clone()).await.unwrap();
        evented::run().install(false).module(module_path!()).outbox(one).await.unwrap();
        let text = heard.text();
        assert!(
            text.lines().any(|line| line.contains("WARN") && line.contains("the outbox's pool has one connection"))
        );
    }
}
