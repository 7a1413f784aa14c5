//! Settings of server, role, database and pool that change what statements mean: all routes work in spite of them.

use std::time::Duration;

use evented::{
    prelude::*,
    sqlx::{
        AssertSqlSafe, MySqlPool, PgPool, mysql::MySqlPoolOptions, postgres::PgPoolOptions, query, query_scalar,
        raw_sql,
    },
};
use evented_tests::{
    Place, Seen, count_of,
    servers::{Mariadb, Postgres as PostgresServer},
};
use serde::{Deserialize, Serialize};

#[event(transactional)]
#[derive(Serialize, Deserialize)]
struct OddlyPaid {
    entry: i64,
}

#[event(transactional)]
#[derive(Serialize, Deserialize)]
struct OddlySold {
    entry: i64,
}

mod on_postgres {
    use super::*;

    /// Longer than a third of its lease, which is renewed meanwhile.
    #[handler(OddlyPaid, outbox(retries = 0))]
    async fn book(event: OddlyPaid, tx: &mut Tx<Postgres>) -> anyhow::Result<()> {
        raw_sql("set local search_path = pg_catalog").execute(&mut **tx).await?;
        query("insert into public.ledger values ($1)").bind(event.entry).execute(&mut **tx).await?;
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        Ok(())
    }

    #[handler(OddlyPaid, background(retries = 0))]
    async fn file(event: OddlyPaid, tx: &mut Tx<Postgres>) -> anyhow::Result<()> {
        query("insert into public.ledger values ($1)").bind(-event.entry).execute(&mut **tx).await?;
        Ok(())
    }

    #[handler(OddlyPaid, background)]
    async fn tell(event: OddlyPaid, seen: State<Seen>) {
        seen.note(format!("told {}", event.entry));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_route_works_whatever_database_and_role_set_on_postgres() {
        let Some(server) = PostgresServer::shared() else { return };
        let url = server.database();
        let pool = PgPool::connect(&url).await.unwrap();
        query("create table ledger (entry int8 not null)").execute(&pool).await.unwrap();
        for setting in [
            "default_transaction_isolation = 'repeatable read'",
            "default_transaction_deferrable = on",
            "default_transaction_read_only = on",
            "lock_timeout = '1ms'",
            "bytea_output = 'escape'",
            "standard_conforming_strings = off",
            "row_security = off",
            "plan_cache_mode = force_custom_plan",
            "enable_indexscan = off",
            "\"TimeZone\" = 'Asia/Kathmandu'",
            "\"DateStyle\" = 'SQL, DMY'",
        ] {
            let database: String = query_scalar("select current_database()").fetch_one(&pool).await.unwrap();
            let sql = format!("set transaction read write; alter database \"{database}\" set {setting}");
            raw_sql(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
        }
        pool.close().await;
        let seen = Seen::default();
        // What the application's own transactions are is its own; these write.
        let options = PgPoolOptions::new().max_connections(4).after_connect(|conn, _| {
            Box::pin(async move {
                raw_sql("set default_transaction_read_only = off").execute(conn).await?;
                Ok(())
            })
        });
        let pool = options.connect(&url).await.unwrap();
        let run = evented::run().install(false).module(module_path!()).queue(&url).outbox(pool.clone());
        let app = run.state(seen.clone()).lease(Duration::from_secs(3)).await.unwrap();
        for entry in 1..=5 {
            let mut tx = evented::begin(&pool).await.unwrap();
            app.emit_in(&mut tx, OddlyPaid { entry }).await.unwrap();
            tx.commit().await.unwrap();
        }
        app.until_idle().await.unwrap();
        assert_eq!(count_of(&app, "OddlyPaid/book").await.dead, 0);
        let found: Vec<i64> = query_scalar("select entry from ledger order by entry").fetch_all(&pool).await.unwrap();
        assert_eq!(found, [-5, -4, -3, -2, -1, 1, 2, 3, 4, 5]);
        assert_eq!(seen.all().len(), 5);
    }
}

mod on_mysql {
    use super::*;

    #[handler(OddlySold, outbox(retries = 0))]
    async fn book(event: OddlySold, tx: &mut Tx<MySql>) -> anyhow::Result<()> {
        query("insert into ledger values (?)").bind(event.entry).execute(&mut **tx).await?;
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        Ok(())
    }

    #[handler(OddlySold, background(retries = 0))]
    async fn file(event: OddlySold, tx: &mut Tx<MySql>) -> anyhow::Result<()> {
        query("insert into ledger values (?)").bind(-event.entry).execute(&mut **tx).await?;
        Ok(())
    }

    const SETTINGS: &str = "set session transaction isolation level serializable;
        set session autocommit = 0, completion_type = 1, sql_safe_updates = 1, sql_select_limit = 1,
            sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,ONLY_FULL_GROUP_BY', innodb_lock_wait_timeout = 1";

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_route_works_whatever_server_and_pool_set_on_mysql() {
        let Some(mut server) = tokio::task::block_in_place(|| {
            Mariadb::start(&[
                ("transaction-isolation", "SERIALIZABLE"),
                ("autocommit", "0"),
                ("completion-type", "1"),
                ("max-statement-time", "1"),
                ("sql-mode", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"),
                ("collation-server", "utf8mb4_general_ci"),
                ("character-set-server", "utf8mb4"),
            ])
        }) else {
            return;
        };
        let (place, seen) = (Place::new(), Seen::default());
        let url = server.database();
        let pool = MySqlPool::connect(&url).await.unwrap();
        raw_sql("create table ledger (entry bigint not null)").execute(&pool).await.unwrap();
        pool.close().await;
        let options = MySqlPoolOptions::new().max_connections(4).after_connect(|conn, _| {
            Box::pin(async move {
                raw_sql(SETTINGS).execute(conn).await?;
                Ok(())
            })
        });
        let pool = options.connect(&url).await.unwrap();
        let run = evented::run().install(false).module(module_path!()).queue(place.queue()).outbox(pool.clone());
        let app = run.state(seen).lease(Duration::from_secs(3)).await.unwrap();
        for entry in 1..=5 {
            let mut tx = evented::begin(&pool).await.unwrap();
            app.emit_in(&mut tx, OddlySold { entry }).await.unwrap();
            tx.commit().await.unwrap();
        }
        app.until_idle().await.unwrap();
        assert_eq!(count_of(&app, "OddlySold/book").await.dead, 0);
        let look = MySqlPool::connect(&url).await.unwrap();
        let found: Vec<i64> = query_scalar("select entry from ledger order by entry").fetch_all(&look).await.unwrap();
        assert_eq!(found, [-5, -4, -3, -2, -1, 1, 2, 3, 4, 5]);
        server.kill();
    }
}
