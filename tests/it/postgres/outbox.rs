//! A whole evented with its outbox in Postgres: the queue beside it, or on Redis.

use std::time::Duration;

use evented::{
    App, ErrorKind,
    outbox::{Kind, Ran, Statement, Value},
    prelude::*,
    sqlx::{
        PgPool,
        postgres::{PgListener, PgPoolOptions},
        query, query_scalar,
    },
};
use evented_tests::{
    DEADLINE, Seen, count_of, eventually,
    servers::{Postgres as Server, Redis},
};
use serde::{Deserialize, Serialize};

/// An app of the calling module's handlers alone.
macro_rules! run {
    ($queue:expr, $pool:expr, $seen:expr) => {
        evented::run().install(false).module(module_path!()).queue($queue).outbox($pool.clone()).state($seen.clone())
    };
}

/// The application's database, with a table `ledger (entry)`.
async fn pool(url: &str) -> PgPool {
    // More than a server that was killed has answered in time.
    let options = PgPoolOptions::new().max_connections(6).acquire_timeout(Duration::from_secs(5));
    let pool = options.connect(url).await.unwrap();
    query("create table if not exists ledger (entry int8 not null)").execute(&pool).await.unwrap();
    pool
}

async fn ledger(pool: &PgPool) -> Vec<i64> {
    query_scalar("select entry from ledger order by entry").fetch_all(pool).await.unwrap()
}

async fn rows(pool: &PgPool) -> i64 {
    query_scalar("select count(*) from evented_outbox").fetch_one(pool).await.unwrap()
}

async fn enter(tx: &mut Tx<Postgres>, entry: i64) -> Result<(), evented::sqlx::Error> {
    query("insert into ledger values ($1)").bind(entry).execute(&mut **tx).await?;
    Ok(())
}

/// A transaction as another library has it: it runs what it is given, and knows nothing of sqlx.
struct Foreign(evented::sqlx::Transaction<'static, Postgres>);
struct Marker;

impl evented::InTx<Marker> for Foreign {
    fn kind(&self) -> Kind {
        Kind::of::<Postgres>()
    }

    fn run<'a>(&'a mut self, statement: &'a Statement) -> Ran<'a> {
        Box::pin(async move {
            let bound = statement.values().iter().fold(query(statement.sql()), |query, value| match value {
                Value::Bytes(bytes) => query.bind(bytes.as_deref()),
                Value::Text(text) => query.bind(text.as_deref()),
                Value::Integer(number) => query.bind(*number),
            });
            Ok(bound.execute(&mut *self.0).await?.rows_affected())
        })
    }
}

mod delivered {
    use super::*;

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    struct BillSettled {
        entry: i64,
    }

    #[handler(BillSettled, in_process(in_transaction))]
    async fn reserve(event: &BillSettled, tx: &mut Tx<Postgres>) -> anyhow::Result<()> {
        enter(tx, -event.entry).await?;
        anyhow::ensure!(event.entry != 13, "nobody settles the 13th");
        Ok(())
    }

    #[handler(BillSettled, outbox(backoff(fixed = "1ms")))]
    async fn book(
        event: BillSettled,
        tx: &mut Tx<Postgres>,
        seen: State<Seen>,
        delivery: Delivery,
    ) -> anyhow::Result<()> {
        enter(tx, event.entry).await?;
        emit_in(tx, BillBooked { entry: event.entry }).await?;
        seen.note(format!("booking {}", event.entry));
        anyhow::ensure!(event.entry % 2 == 1 || delivery.attempt() == 3, "failed after its write");
        Ok(())
    }

    #[handler(BillSettled, background(backoff(fixed = "1ms")))]
    async fn copy(
        event: BillSettled,
        tx: &mut Tx<Postgres>,
        seen: State<Seen>,
        delivery: Delivery,
    ) -> anyhow::Result<()> {
        enter(tx, 1_000 + event.entry).await?;
        // Beside the transaction, which locks its rows alone.
        emit(BillNoted { entry: event.entry }).await?;
        seen.note(format!("copying {}", event.entry));
        anyhow::ensure!(event.entry % 2 == 1 || delivery.attempt() == 2, "failed after its write");
        Ok(())
    }

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    struct BillBooked {
        entry: i64,
    }

    #[handler(BillBooked, outbox)]
    async fn tell(event: BillBooked, seen: State<Seen>) {
        seen.note(format!("booked {}", event.entry));
    }

    #[event]
    #[derive(Serialize, Deserialize)]
    struct BillNoted {
        entry: i64,
    }

    #[handler(BillNoted, background)]
    async fn note(event: BillNoted, seen: State<Seen>) {
        seen.note(format!("noted {}", event.entry));
    }

    async fn settle(app: &App, pool: &PgPool, entry: i64) {
        let mut tx = evented::begin(pool).await.unwrap();
        app.emit_in(&mut tx, BillSettled { entry }).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Emits in three ways, and waits until all of it has happened.
    async fn all_of_it_happens(queue: &str, url: &str) {
        let (pool, seen) = (pool(url).await, Seen::default());
        let app = run!(queue, pool, seen).await.unwrap();
        let other = run!(queue, pool, seen).await.unwrap();
        settle(&app, &pool, 1).await;
        settle(&other, &pool, 2).await;
        // A transaction that sqlx began, of whose commit nobody is told.
        let mut tx = pool.begin().await.unwrap();
        let error = app.emit_in(&mut tx, BillSettled { entry: 13 }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Handler, "{error}");
        app.emit_in(&mut tx, BillSettled { entry: 3 }).await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = pool.begin().await.unwrap();
        app.emit_in(&mut tx, BillSettled { entry: 4 }).await.unwrap();
        tx.rollback().await.unwrap();
        eventually("all is delivered", async || {
            let booked = (1..=3).all(|entry| seen.count(&format!("booked {entry}")) == 1);
            booked && (1..=3).all(|entry| seen.count(&format!("noted {entry}")) >= 1)
        })
        .await;
        app.until_idle().await.unwrap();
        assert_eq!(ledger(&pool).await, [-3, -2, -1, 1, 2, 3, 1_001, 1_002, 1_003]);
        assert_eq!(seen.count("booking 2"), 3, "each attempt had written");
        assert_eq!((seen.count("copying 2"), seen.count("noted 2")), (2, 2), "what is emitted beside it, is");
        assert_eq!(rows(&pool).await, 0);
        let book = count_of(&app, "BillSettled/book").await;
        assert_eq!((book.done, book.retried, book.dead), (3, 2, 0));
        app.stop().await;
        other.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn with_the_queue_beside_it_each_effect_happens_once() {
        let Some(server) = Server::shared() else { return };
        let url = server.database();
        all_of_it_happens(&url, &url).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn with_the_queue_on_redis_each_effect_happens_once() {
        let (Some(server), Some(redis)) = (Server::shared(), Redis::shared()) else { return };
        let queue = format!("{}/0?prefix={}", redis.url(), redis.prefix());
        let url = server.database();
        all_of_it_happens(&queue, &url).await;
        let remembered = server.ask(&url, "select count(*) from evented_inbox").unwrap();
        assert_eq!(remembered, "3", "what ran of another store is remembered beside its effects");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_transaction_that_commits_late_with_an_earlier_sequence_is_delivered() {
        let Some(server) = Server::shared() else { return };
        let url = server.database();
        let (pool, seen) = (pool(&url).await, Seen::default());
        let app = run!(&url, pool, seen).await.unwrap();
        let mut late = pool.begin().await.unwrap();
        app.emit_in(&mut late, BillSettled { entry: 5 }).await.unwrap();
        for entry in [7, 9] {
            settle(&app, &pool, entry).await;
        }
        app.until_idle().await.unwrap();
        assert_eq!((seen.count("booked 7"), seen.count("booked 9"), seen.count("booked 5")), (1, 1, 0));
        late.commit().await.unwrap();
        eventually("the late one is found", async || seen.count("booked 5") == 1).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_commit_of_another_process_is_relayed_at_once() {
        let Some(server) = Server::shared() else { return };
        let url = server.database();
        let (pool, seen) = (pool(&url).await, Seen::default());
        let worker = run!(&url, pool, seen).role(Role::Work).await.unwrap();
        let web = run!(&url, pool, seen).role(Role::Emit).await.unwrap();
        let mut took = Vec::new();
        for number in 0..8 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let began = std::time::Instant::now();
            let entry = number * 2 + 101;
            if number % 2 == 0 {
                settle(&web, &pool, entry).await;
            } else {
                let mut tx = pool.begin().await.unwrap();
                web.emit_in(&mut tx, BillSettled { entry }).await.unwrap();
                tx.commit().await.unwrap();
            }
            eventually("it is booked", async || seen.count(&format!("booking {entry}")) == 1).await;
            took.push(began.elapsed());
        }
        took.sort();
        // The middle one: the machine may be busy with something else for a moment.
        assert!(took[4] < Duration::from_millis(500), "{took:?}");
        worker.stop().await;
        web.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn behind_a_pooler_a_steady_trickle_is_relayed_soon() {
        let Some(server) = Server::shared() else { return };
        let url = server.database();
        let (pool, seen) = (pool(&url).await, Seen::default());
        // Without prepared statements there is no listening.
        let options = (*pool.connect_options()).clone().statement_cache_capacity(0);
        let pooled = PgPoolOptions::new().max_connections(6).connect_with(options).await.unwrap();
        let worker = run!(&url, pooled, seen).role(Role::Work).await.unwrap();
        let web = run!(&url, pool, seen).role(Role::Emit).await.unwrap();
        let mut took = Vec::new();
        for number in 0..10 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let entry = number * 2 + 301;
            let began = std::time::Instant::now();
            let mut tx = evented::begin(&pool).await.unwrap();
            web.emit_in(&mut tx, BillBooked { entry }).await.unwrap();
            tx.commit().await.unwrap();
            eventually("it is told", async || seen.count(&format!("booked {entry}")) == 1).await;
            took.push(began.elapsed());
        }
        took.sort();
        assert!(took[5] < Duration::from_millis(700), "{took:?}");
        worker.stop().await;
        web.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_commit_notifies_by_itself_where_that_is_asked_for() {
        let Some(server) = Server::shared() else { return };
        let url = server.database();
        let (pool, seen) = (pool(&url).await, Seen::default());
        let worker = run!(&url, pool, seen).role(Role::Work).await.unwrap();
        let [web, plain] = [true, false]
            .map(|notify| run!(&url, pool, seen).role(Role::Emit).notify_in_transaction(notify).into_future());
        let (web, plain) = (web.await.unwrap(), plain.await.unwrap());
        let channel = "select 'evented_' || 'evented_schema'::regclass::oid";
        let channel: String = query_scalar(channel).fetch_one(&pool).await.unwrap();
        let mut listener = PgListener::connect(&url).await.unwrap();
        listener.listen(&channel).await.unwrap();
        // What others say of themselves there has a sender; what a transaction says has none.
        let mut told = async || loop {
            let told = tokio::time::timeout(Duration::from_millis(500), listener.recv()).await;
            let Ok(told) = told else { return false };
            if told.unwrap().payload().is_empty() {
                return true;
            }
        };
        let mut entry = 201;
        for (app, commits, expected) in [(&plain, true, false), (&web, false, false), (&web, true, true)] {
            let mut tx = pool.begin().await.unwrap();
            app.emit_in(&mut tx, BillSettled { entry }).await.unwrap();
            assert!(!told().await, "before its commit");
            if commits {
                tx.commit().await.unwrap();
                let booking = format!("booking {entry}");
                eventually("it is booked", async || seen.count(&booking) == 1).await;
            } else {
                tx.rollback().await.unwrap();
            }
            assert_eq!(told().await, expected, "commits: {commits}");
            entry += 2;
        }
        let mut tx = Foreign(pool.begin().await.unwrap());
        web.emit_in(&mut tx, BillBooked { entry }).await.unwrap();
        tx.0.commit().await.unwrap();
        assert!(told().await, "a transaction of another library");
        for app in [worker, web, plain] {
            app.stop().await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_transaction_of_another_database_is_refused_and_nothing_is_written() {
        let Some(server) = Server::shared() else { return };
        let (url, other, bare) = (server.database(), server.database(), server.database());
        let (shop, seen) = (pool(&url).await, Seen::default());
        let app = run!(&url, shop, seen).await.unwrap();
        // It has evented's tables, too.
        let other = pool(&other).await;
        let neighbour = run!(&server.database(), other, seen).await.unwrap();
        let mut tx = evented::begin(&other).await.unwrap();
        let error = app.emit_in(&mut tx, BillSettled { entry: 1 }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoOutbox);
        assert!(error.to_string().contains(".outbox(pool)"), "{error}");
        // The transaction goes on, and so does the emit of whom it is.
        neighbour.emit_in(&mut tx, BillSettled { entry: 3 }).await.unwrap();
        tx.commit().await.unwrap();
        eventually("the neighbour's is delivered", async || seen.count("booked 3") == 1).await;
        assert_eq!((rows(&shop).await, ledger(&shop).await.len()), (0, 0));
        // It has none.
        let bare = pool(&bare).await;
        let mut tx = evented::begin(&bare).await.unwrap();
        let error = app.emit_in(&mut tx, BillSettled { entry: 1 }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoOutbox, "{error:?}");
        tx.rollback().await.unwrap();
        // The same database by another way is the same.
        let another_way = pool(&url.replace("127.0.0.1", "localhost")).await;
        let mut tx = another_way.begin().await.unwrap();
        app.emit_in(&mut tx, BillSettled { entry: 5 }).await.unwrap();
        app.emit_in(&mut tx, BillSettled { entry: 7 }).id(evented::EventId::from_key("7")).await.unwrap();
        app.emit_in(&mut tx, BillSettled { entry: 7 }).id(evented::EventId::from_key("7")).await.unwrap();
        tx.commit().await.unwrap();
        eventually("both are delivered", async || seen.count("booked 5") == 1 && seen.count("booked 7") == 1).await;
        app.until_idle().await.unwrap();
        assert_eq!(seen.count("booking 7"), 1, "an id that waits is written once");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_idle_process_asks_at_most_once_a_second() {
        let Some(server) = Server::start(&[("log_statement", "all")]) else { return };
        let url = server.url();
        let (pool, seen) = (pool(&url).await, Seen::default());
        let app = run!(&url, pool, seen).await.unwrap();
        settle(&app, &pool, 1).await;
        app.until_idle().await.unwrap();
        // The look for what was emitted is over.
        tokio::time::sleep(Duration::from_secs(4)).await;
        let statements = || {
            let log = std::fs::read_to_string(server.folder().join("log")).unwrap();
            log.lines().filter(|line| line.contains("LOG:  execute") || line.contains("LOG:  statement")).count()
        };
        let before = statements();
        assert!(before > 0);
        tokio::time::sleep(Duration::from_secs(12)).await;
        let asked = statements() - before;
        assert!(asked <= 12, "{asked} in 12 seconds");
        app.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_committed_is_delivered_though_the_server_is_killed_while_it_is_relayed() {
        let Some(mut server) = Server::start(&[]) else { return };
        let url = server.url();
        let (pool, seen) = (pool(&url).await, Seen::default());
        let app = run!(&url, pool, seen).lease(Duration::from_secs(2)).await.unwrap();
        let mut committed = Vec::new();
        for round in 0..3 {
            for number in 0..40 {
                let entry = 101 + round * 100 + number * 2;
                let mut tx = evented::begin(&pool).await.unwrap();
                app.emit_in(&mut tx, BillSettled { entry }).await.unwrap();
                tx.commit().await.unwrap();
                committed.push(entry);
            }
            server.restart();
            // What is broken in the application's pool is its own to find.
            eventually("the pool answers", async || query("select 1").execute(&pool).await.is_ok()).await;
        }
        let mut expected: Vec<i64> = committed.iter().flat_map(|entry| [-entry, *entry, 1_000 + entry]).collect();
        expected.sort_unstable();
        eventually("all is booked and copied", async || ledger(&pool).await.len() >= expected.len()).await;
        app.until_idle().await.unwrap();
        assert_eq!(ledger(&pool).await, expected, "each effect once");
        assert!(app.dead_letters().await.unwrap().is_empty());
    }
}

mod ordered {
    use super::*;

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    struct AccountMoved {
        account: i64,
        number: i64,
    }

    #[handler(AccountMoved, outbox(ordered_by = "account", retries = 3, backoff(fixed = "1ms")))]
    async fn follow(event: AccountMoved, tx: &mut Tx<Postgres>, seen: State<Seen>) -> anyhow::Result<()> {
        enter(tx, event.number).await?;
        seen.note(format!("outbox {} {}", event.account, event.number));
        Ok(())
    }

    #[handler(AccountMoved, background(ordered_by = "account"))]
    async fn mirror(event: AccountMoved, seen: State<Seen>) {
        seen.note(format!("background {} {}", event.account, event.number));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_relays_keep_the_order_of_each_key() {
        const EACH: i64 = 60;
        let (Some(server), Some(redis)) = (Server::shared(), Redis::shared()) else { return };
        let url = server.database();
        let queue = format!("{}/0?prefix={}", redis.url(), redis.prefix());
        let (pool, seen) = (pool(&url).await, Seen::default());
        let one = run!(&queue, pool, seen).await.unwrap();
        let other = run!(&queue, pool, seen).await.unwrap();
        for number in 0..EACH {
            for account in 0..3 {
                let app = if (number + account) % 2 == 0 { &one } else { &other };
                let mut tx = evented::begin(&pool).await.unwrap();
                app.emit_in(&mut tx, AccountMoved { account, number }).await.unwrap();
                tx.commit().await.unwrap();
            }
        }
        one.until_idle().await.unwrap();
        let all = seen.all();
        for route in ["outbox", "background"] {
            for account in 0..3 {
                let start = format!("{route} {account} ");
                let numbers: Vec<i64> =
                    all.iter().filter_map(|noted| noted.strip_prefix(&start)?.parse().ok()).collect();
                assert_eq!(numbers, (0..EACH).collect::<Vec<_>>(), "{start}");
            }
        }
        assert_eq!(ledger(&pool).await.len(), 3 * 60);
        drop(other);
    }
}

mod misused {
    use super::*;

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    struct DeedMisused {
        how: String,
    }

    #[handler(DeedMisused, outbox(retries = 1, backoff(fixed = "1ms")))]
    async fn misuse(event: DeedMisused, tx: &mut Tx<Postgres>) -> anyhow::Result<()> {
        enter(tx, 1).await?;
        let sql = match &*event.how {
            "breaks a deferred constraint" => "insert into child values (7)",
            "goes on after an error" => "insert into not_there values (7)",
            "ends its connection" => "select pg_terminate_backend(pg_backend_pid())",
            _ => "commit",
        };
        let done = query(evented::sqlx::AssertSqlSafe(sql)).execute(&mut **tx).await;
        if event.how != "goes on after an error" {
            done?;
        }
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_handler_does_to_its_transaction_is_its_failure_and_no_others() {
        let Some(server) = Server::shared() else { return };
        let url = server.database();
        let pool = pool(&url).await;
        query("create table parent (id int8 primary key)").execute(&pool).await.unwrap();
        let sql = "create table child (parent int8 references parent deferrable initially deferred)";
        query(sql).execute(&pool).await.unwrap();
        let app = evented::run().install(false).module(module_path!()).queue(&url).outbox(pool.clone()).await.unwrap();
        let ways = [
            ("breaks a deferred constraint", "foreign key constraint"),
            ("goes on after an error", "it returned `Ok` all the same"),
            ("ends its connection", "terminating connection"),
            ("commits", "the handler ended its transaction itself"),
        ];
        for (at, (how, says)) in ways.iter().enumerate() {
            let mut tx = evented::begin(&pool).await.unwrap();
            app.emit_in(&mut tx, DeedMisused { how: (*how).to_owned() }).await.unwrap();
            tx.commit().await.unwrap();
            eventually(how, async || app.dead_letters().await.unwrap().len() == at + 1).await;
            let letter = app.dead_letters().await.unwrap().remove(0);
            assert!(letter.attempts == 2 && letter.error.contains(says), "{how}: {letter:?}");
        }
        assert_eq!(ledger(&pool).await, [1, 1], "what was committed by hand, twice");
        // None of the pool's connections was spoilt.
        let sql = "select count(*) from pg_stat_activity
            where datname = current_database() and state like 'idle in transaction%'";
        eventually("no connection is left in a transaction", async || {
            let open: i64 = query_scalar(sql).fetch_one(&pool).await.unwrap();
            open == 0
        })
        .await;
        let mut held = Vec::new();
        while held.len() < 6 {
            held.push(tokio::time::timeout(DEADLINE, pool.acquire()).await.expect("none was lost").unwrap());
        }
        app.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_foreign_transaction_of_another_database_is_refused() {
        let Some(server) = Server::shared() else { return };
        let (url, other) = (server.database(), server.database());
        let (pool, other) = (pool(&url).await, pool(&other).await);
        let start = |pool: &PgPool| {
            evented::run().install(false).module("nowhere").role(Role::Emit).queue(&url).outbox(pool.clone())
        };
        let (app, _neighbour) = (start(&pool).await.unwrap(), start(&other).await.unwrap());
        let event = || DeedMisused { how: "not at all".to_owned() };
        let mut tx = Foreign(pool.begin().await.unwrap());
        app.emit_in(&mut tx, event()).await.unwrap();
        tx.0.commit().await.unwrap();
        assert_eq!(rows(&pool).await, 1);
        let mut tx = Foreign(other.begin().await.unwrap());
        let error = app.emit_in(&mut tx, event()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoOutbox, "{error:?}");
        assert!(error.to_string().contains("of another database than the outbox"), "{error}");
        drop(tx);
        assert_eq!(rows(&other).await, 0);
    }
}

mod greedy;
