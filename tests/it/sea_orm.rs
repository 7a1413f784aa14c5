//! Events in the transactions of `sea-orm`, on each database that the outbox is kept in.

use evented::{ErrorKind, EventId, prelude::*};
use evented_tests::{
    Place, Seen, eventually,
    servers::{Mariadb, Postgres as Server},
};
use sea_orm::{
    ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, SqliteTransactionMode, SqlxSqliteConnector,
    Statement, TransactionError, TransactionOptions, TransactionTrait,
};
use serde::{Deserialize, Serialize};

use orchard::{Graded, Picked, Sold};

/// An application on `sea-orm`, with a table `ledger (entry)`.
struct Shop {
    place: Place,
    db: DatabaseConnection,
}

impl Shop {
    async fn sqlite() -> Option<Self> {
        let place = Place::new();
        let db = SqlxSqliteConnector::from_sqlx_sqlite_pool(place.pool().await);
        Some(Self { place, db })
    }

    async fn postgres() -> Option<Self> {
        Self::at(&tokio::task::block_in_place(|| Some(Server::shared()?.database()))?).await
    }

    async fn mysql() -> Option<Self> {
        Self::at(&tokio::task::block_in_place(|| Some(Mariadb::shared()?.database()))?).await
    }

    /// `None` where the server is not installed.
    async fn at(url: &str) -> Option<Self> {
        let db = Database::connect(url).await.unwrap();
        db.execute_unprepared("create table ledger (entry bigint not null)").await.unwrap();
        Some(Self { place: Place::new(), db })
    }

    /// What `run()` is given: the pool under the connection.
    fn run(&self, seen: &Seen) -> evented::Run {
        let run = evented::run().install(false).module(concat!(module_path!(), "::orchard")).queue(self.place.queue());
        let run = match self.db.get_database_backend() {
            DbBackend::Postgres => run.outbox(self.db.get_postgres_connection_pool().clone()),
            DbBackend::MySql => run.outbox(self.db.get_mysql_connection_pool().clone()),
            _ => run.outbox(self.db.get_sqlite_connection_pool().clone()),
        };
        run.state(seen.clone()).state(self.db.clone())
    }

    async fn number(&self, sql: &str) -> i64 {
        let statement = Statement::from_string(self.db.get_database_backend(), sql);
        self.db.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
    }

    /// How many entries the ledger has, and how many rows wait in the outbox.
    async fn rows(&self) -> (i64, i64) {
        let entries = self.number("select count(*) from ledger").await;
        (entries, self.number("select count(*) from evented_outbox").await)
    }
}

async fn enter(tx: &impl ConnectionTrait, entry: i64) -> Result<(), DbErr> {
    tx.execute_unprepared(&format!("insert into ledger values ({entry})")).await.map(drop)
}

/// Each test on each database.
macro_rules! on_each_database {
    ($($test:ident)*) => {$(
        mod $test {
            use super::Shop;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$test([Shop::sqlite().await, Shop::sqlite().await]).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::$test([Shop::postgres().await, Shop::postgres().await]).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn mysql() {
                super::$test([Shop::mysql().await, Shop::mysql().await]).await;
            }
        }
    )*};
}

on_each_database! {
    an_event_exists_if_and_only_if_its_transaction_commits
    a_handler_that_fails_undoes_its_row_and_the_transaction_goes_on
    a_nested_transaction_takes_its_event_with_it
    the_closure_of_a_transaction_emits
    what_a_handler_emits_names_its_cause
    an_id_emitted_twice_is_one_event_and_a_delay_is_kept
    a_transaction_of_another_database_is_refused
}

/// Two databases of a kind, where that is installed.
type Shops = [Option<Shop>; 2];

/// What the application of each database has: nothing that names one.
mod orchard {
    use super::*;

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    pub struct Picked {
        pub apple: String,
    }

    #[handler(Picked, outbox)]
    async fn in_outbox(event: Picked, seen: State<Seen>) {
        seen.note(format!("outbox {}", event.apple));
    }

    #[handler(Picked, background)]
    async fn in_background(event: Picked, seen: State<Seen>) {
        seen.note(format!("background {}", event.apple));
    }

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    pub struct Graded {
        pub grams: i64,
    }

    #[handler(Graded, in_process(in_transaction))]
    fn is_positive(event: &Graded) -> anyhow::Result<()> {
        anyhow::ensure!(event.grams > 0, "an apple of {} grams", event.grams);
        Ok(())
    }

    #[handler(Graded, outbox)]
    async fn graded(event: Graded, seen: State<Seen>) {
        seen.note(format!("graded {}", event.grams));
    }

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    pub struct Sold {
        pub price: i64,
    }

    #[handler(Sold, outbox(backoff(fixed = "1ms")))]
    async fn book(event: Sold, db: State<DatabaseConnection>) -> evented::Result<()> {
        let mut tx = db.begin().await?;
        enter(&tx, event.price).await?;
        emit_in(&mut tx, Invoiced).await?;
        tx.commit().await?;
        Ok(())
    }

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    pub struct Invoiced;

    #[handler(Invoiced, background)]
    async fn invoiced(_event: Invoiced, delivery: Delivery, seen: State<Seen>) {
        seen.note(format!("{} {:?}", delivery.correlation(), delivery.causation()));
    }
}

/// An event of whatever text a column may mistake.
fn picked(apple: &str) -> Picked {
    Picked { apple: apple.to_owned() }
}

async fn an_event_exists_if_and_only_if_its_transaction_commits([shop, _]: Shops) {
    let (Some(shop), seen) = (shop, Seen::default()) else { return };
    let app = shop.run(&seen).await.unwrap();
    for (apple, commits) in [("Idared", false), ("Böskoop 'äpple' \\", true)] {
        let mut tx = shop.db.begin().await.unwrap();
        enter(&tx, 1).await.unwrap();
        app.emit_in(&mut tx, picked(apple)).await.unwrap();
        if commits { tx.commit().await } else { tx.rollback().await }.unwrap();
    }
    app.until_idle().await.unwrap();
    let mut all = seen.all();
    all.sort();
    assert_eq!(all, ["background Böskoop 'äpple' \\", "outbox Böskoop 'äpple' \\"]);
    assert_eq!(shop.rows().await, (1, 0));
}

async fn a_handler_that_fails_undoes_its_row_and_the_transaction_goes_on([shop, _]: Shops) {
    let (Some(shop), seen) = (shop, Seen::default()) else { return };
    let app = shop.run(&seen).await.unwrap();
    let mut tx = shop.db.begin().await.unwrap();
    app.emit_in(&mut tx, Graded { grams: 180 }).await.unwrap();
    enter(&tx, 1).await.unwrap();
    let error = app.emit_in(&mut tx, Graded { grams: -1 }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Handler);
    assert!(format!("{error:?}").contains("an apple of -1 grams"), "{error:?}");
    enter(&tx, 2).await.unwrap();
    app.emit_in(&mut tx, Graded { grams: 190 }).await.unwrap();
    tx.commit().await.unwrap();
    app.until_idle().await.unwrap();
    let mut all = seen.all();
    all.sort();
    assert_eq!(all, ["graded 180", "graded 190"]);
    assert_eq!(shop.rows().await, (2, 0));
}

async fn a_nested_transaction_takes_its_event_with_it([shop, _]: Shops) {
    let (Some(shop), seen) = (shop, Seen::default()) else { return };
    let app = shop.run(&seen).await.unwrap();
    for outer_commits in [true, false] {
        let mut outer = shop.db.begin().await.unwrap();
        app.emit_in(&mut outer, Graded { grams: 1 }).await.unwrap();
        let mut inner = outer.begin().await.unwrap();
        app.emit_in(&mut inner, Graded { grams: 2 }).await.unwrap();
        enter(&inner, 2).await.unwrap();
        inner.commit().await.unwrap();
        let mut inner = outer.begin().await.unwrap();
        app.emit_in(&mut inner, Graded { grams: 3 }).await.unwrap();
        enter(&inner, 3).await.unwrap();
        inner.rollback().await.unwrap();
        if outer_commits { outer.commit().await } else { outer.rollback().await }.unwrap();
    }
    app.until_idle().await.unwrap();
    let mut all = seen.all();
    all.sort();
    assert_eq!(all, ["graded 1", "graded 2"]);
    assert_eq!(shop.rows().await, (1, 0));
}

async fn the_closure_of_a_transaction_emits([shop, _]: Shops) {
    let (Some(shop), seen) = (shop, Seen::default()) else { return };
    let app = shop.run(&seen).await.unwrap();
    for grams in [5, -5] {
        let app = app.clone();
        let done = shop.db.transaction(|mut tx| {
            Box::pin(async move {
                enter(tx, grams).await?;
                app.emit_in(&mut tx, Graded { grams }).await
            })
        });
        match done.await {
            Ok(()) => assert_eq!(grams, 5),
            Err(TransactionError::Transaction(error)) => assert_eq!((grams, error.kind()), (-5, ErrorKind::Handler)),
            Err(error) => panic!("{error}"),
        }
    }
    app.until_idle().await.unwrap();
    assert_eq!((seen.all(), shop.rows().await), (vec!["graded 5".to_owned()], (1, 0)));
}

async fn what_a_handler_emits_names_its_cause([shop, _]: Shops) {
    let (Some(shop), seen) = (shop, Seen::default()) else { return };
    let app = shop.run(&seen).await.unwrap();
    let id = EventId::new();
    let mut tx = shop.db.begin().await.unwrap();
    app.emit_in(&mut tx, Sold { price: 3 }).id(id).await.unwrap();
    tx.commit().await.unwrap();
    app.until_idle().await.unwrap();
    assert_eq!(seen.all(), [format!("{id} {:?}", Some(id))]);
    assert_eq!(shop.rows().await, (1, 0));
}

async fn an_id_emitted_twice_is_one_event_and_a_delay_is_kept([shop, _]: Shops) {
    let (Some(shop), seen) = (shop, Seen::default()) else { return };
    let app = shop.run(&seen).await.unwrap();
    let (id, day) = (EventId::from_key("the parcel"), std::time::Duration::from_hours(24));
    let mut tx = shop.db.begin().await.unwrap();
    for _ in 0..2 {
        app.emit_in(&mut tx, picked("Jonagold")).id(id).await.unwrap();
        enter(&tx, 1).await.unwrap();
    }
    app.emit_in(&mut tx, picked("Gala")).after(day).await.unwrap();
    tx.commit().await.unwrap();
    eventually("the parcel is delivered", async || seen.all().len() == 2).await;
    eventually("its row is finished, and the delayed one waits", async || shop.rows().await == (2, 1)).await;
    assert_eq!(seen.count("outbox Jonagold"), 1);
    let wait = shop.number("select due_at - emitted_at from evented_outbox").await;
    assert!((86_399_000..86_401_000).contains(&wait), "{wait} ms");
}

async fn a_transaction_of_another_database_is_refused(shops: Shops) {
    let ([Some(shop), Some(other)], seen) = (shops, Seen::default()) else { return };
    let app = shop.run(&seen).await.unwrap();
    for has_tables in [false, true] {
        if has_tables {
            other.run(&seen).role(Role::Emit).await.unwrap().stop().await;
        }
        let mut tx = other.db.begin().await.unwrap();
        let refused = [
            app.emit_in(&mut tx, Graded { grams: 1 }).await.unwrap_err(),
            // Without a savepoint, after which Postgres goes on no more.
            app.emit_in(&mut tx, picked("Elstar")).await.unwrap_err(),
        ];
        for error in refused {
            let text = error.to_string();
            assert_eq!(error.kind(), ErrorKind::NoOutbox, "{error:?}");
            assert!(text.contains("this transaction is of another") && text.contains(".outbox(pool)"), "{error:?}");
        }
        tx.rollback().await.unwrap();
    }
    assert_eq!(other.rows().await, (0, 0));
    // One of another kind is refused before anything is asked of it.
    let other = match shop.db.get_database_backend() {
        DbBackend::Sqlite => Shop::postgres().await,
        _ => Shop::sqlite().await,
    };
    let Some(other) = other else { return };
    let mut tx = other.db.begin().await.unwrap();
    let error = app.emit_in(&mut tx, picked("Elstar")).await.unwrap_err();
    let kind = if other.db.get_database_backend() == DbBackend::Sqlite { "SQLite" } else { "Postgres" };
    let text = format!("`run()` was given no outbox for {kind}; give it the pool with `.outbox(pool)`");
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::NoOutbox, text));
    enter(&tx, 1).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn on_sqlite_a_transaction_that_read_first_says_how_to_begin_it() {
    let (Some(shop), seen) = (Shop::sqlite().await, Seen::default()) else { return };
    let app = shop.run(&seen).role(Role::Emit).await.unwrap();
    let options = |mode| TransactionOptions { sqlite_transaction_mode: Some(mode), ..TransactionOptions::default() };
    let read = Statement::from_string(DbBackend::Sqlite, "select count(*) from ledger");
    let mut late = shop.db.begin().await.unwrap();
    late.query_one_raw(read.clone()).await.unwrap();
    enter(&shop.db, 1).await.unwrap();
    let error = app.emit_in(&mut late, picked("Topaz")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Database);
    assert!(error.to_string().contains("begin it with `BEGIN IMMEDIATE`"), "{error:?}");
    late.rollback().await.unwrap();
    let mut tx = shop.db.begin_with_options(options(SqliteTransactionMode::Immediate)).await.unwrap();
    tx.query_one_raw(read).await.unwrap();
    app.emit_in(&mut tx, picked("Topaz")).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(shop.rows().await, (1, 1));
}

mod with_a_tx {
    use super::*;

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    struct Pressed;

    #[handler(Pressed, in_process(in_transaction))]
    async fn press(_event: &Pressed, _tx: &mut Tx<Sqlite>) {}

    #[tokio::test]
    async fn a_handler_that_takes_the_transaction_cannot_have_it_and_the_error_says_what_can() {
        let Some(shop) = Shop::sqlite().await else { return };
        let pool = shop.db.get_sqlite_connection_pool().clone();
        let run = evented::run().install(false).module(module_path!()).queue(shop.place.queue());
        let app = run.role(Role::Emit).outbox(pool.clone()).await.unwrap();
        let mut tx = shop.db.begin().await.unwrap();
        let error = app.emit_in(&mut tx, Pressed).await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::NoOutbox);
        for part in [
            "handler `Pressed/press` (tests/it/sea_orm.rs:",
            "takes a `Tx<Sqlite>`",
            "of another library",
            "`evented::begin`",
        ] {
            assert!(text.contains(part), "{text}");
        }
        tx.commit().await.unwrap();
        let mut tx = evented::begin(&pool).await.unwrap();
        app.emit_in(&mut tx, Pressed).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(shop.rows().await, (0, 1));
    }
}
