//! The outbox: events that exist if, and only if, the transaction commits, and handlers that run in one.

use std::time::Duration;

use evented::{
    ErrorKind,
    prelude::*,
    sqlx::{SqlitePool, query, query_scalar},
};
use evented_tests::{Place, Seen, eventually, open_pool};
use serde::{Deserialize, Serialize};

macro_rules! run {
    ($place:expr, $pool:expr, $seen:expr) => {
        evented::run()
            .install(false)
            .module(module_path!())
            .queue($place.queue())
            .outbox($pool.clone())
            .state($seen.clone())
    };
}

/// What stands in the ledger.
async fn ledger(pool: &SqlitePool) -> Vec<i64> {
    query_scalar("select entry from ledger order by entry").fetch_all(pool).await.unwrap()
}

async fn enter(tx: &mut Tx<Sqlite>, entry: i64) -> Result<(), evented::sqlx::Error> {
    query("insert into ledger (entry) values (?)").bind(entry).execute(&mut **tx).await?;
    Ok(())
}

mod delivered {
    use super::*;

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    struct Paid {
        entry: i64,
    }

    #[handler(Paid, outbox(backoff(fixed = "1ms")))]
    async fn book(event: Paid, tx: &mut Tx<Sqlite>, seen: State<Seen>, delivery: Delivery) -> anyhow::Result<()> {
        enter(tx, event.entry).await?;
        seen.note(format!("booking {}", event.entry));
        if event.entry % 2 == 0 && delivery.attempt() < 3 {
            anyhow::bail!("failed after its write");
        }
        Ok(())
    }

    #[handler(Paid, outbox)]
    async fn without_a_transaction(event: Paid, seen: State<Seen>) {
        seen.note(format!("outbox {}", event.entry));
    }

    #[handler(Paid, background)]
    async fn in_background(event: Paid, seen: State<Seen>) {
        seen.note(format!("background {}", event.entry));
    }

    #[tokio::test]
    async fn an_event_exists_if_and_only_if_its_transaction_commits() {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        let app = run!(place, pool, seen).await.unwrap();
        let mut tx = evented::begin(&pool).await.unwrap();
        app.emit_in(&mut tx, Paid { entry: 1 }).await.unwrap();
        tx.rollback().await.unwrap();
        let mut tx = evented::begin(&pool).await.unwrap();
        app.emit_in(&mut tx, Paid { entry: 3 }).await.unwrap();
        tx.commit().await.unwrap();
        app.until_idle().await.unwrap();
        let mut all = seen.all();
        all.sort();
        assert_eq!(all, ["background 3", "booking 3", "outbox 3"]);
        assert_eq!(ledger(&pool).await, [3]);
    }

    #[tokio::test]
    async fn a_transactional_handler_has_its_effects_exactly_once_however_often_it_fails() {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        let app = run!(place, pool, seen).await.unwrap();
        for entry in 0..10 {
            let mut tx = evented::begin(&pool).await.unwrap();
            app.emit_in(&mut tx, Paid { entry }).await.unwrap();
            tx.commit().await.unwrap();
        }
        app.until_idle().await.unwrap();
        assert_eq!(ledger(&pool).await, (0..10).collect::<Vec<_>>());
        assert_eq!(seen.count("booking 4"), 3);
        let book = app.counts().await.unwrap().into_iter().find(|count| count.handler == "Paid/book").unwrap();
        assert_eq!((book.done, book.retried, book.dead), (10, 10, 0));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_processes_on_one_outbox_deliver_each_event_once() {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        let one = run!(place, pool, seen).await.unwrap();
        let other = run!(place, place.pool().await, seen).await.unwrap();
        for entry in 0..50 {
            let mut tx = evented::begin(&pool).await.unwrap();
            one.emit_in(&mut tx, Paid { entry: entry * 2 + 1 }).await.unwrap();
            tx.commit().await.unwrap();
        }
        other.until_idle().await.unwrap();
        for entry in 0..50 {
            let entry = entry * 2 + 1;
            assert_eq!(seen.count(&format!("background {entry}")), 1);
            assert_eq!(seen.count(&format!("outbox {entry}")), 1);
        }
        assert_eq!(ledger(&pool).await.len(), 50);
    }

    #[tokio::test]
    async fn the_queue_and_the_outbox_can_share_a_file() {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        let queue = format!("sqlite:{}", place.path("shop.db").display());
        let app = run!(place, pool, seen).queue(queue).await.unwrap();
        let mut tx = evented::begin(&pool).await.unwrap();
        app.emit_in(&mut tx, Paid { entry: 5 }).await.unwrap();
        tx.commit().await.unwrap();
        app.until_idle().await.unwrap();
        assert_eq!((ledger(&pool).await, seen.all().len()), (vec![5], 3));
        assert!(!place.path("evented.db").exists());
    }

    /// Between a claim of a row and a push another relay may have pushed, and the delivery have run.
    #[tokio::test]
    async fn in_a_shared_file_a_row_is_replaced_by_all_its_deliveries_in_one_commit() {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        let queue = format!("sqlite:{}", place.path("shop.db").display());
        let app = run!(place, pool, seen).queue(queue).await.unwrap();
        let trigger = "create trigger claimed before update of lease on evented_outbox
            begin select raise(abort, 'a row was claimed'); end";
        query(trigger).execute(&pool).await.unwrap();
        let mut tx = evented::begin(&pool).await.unwrap();
        app.emit_in(&mut tx, Paid { entry: 15 }).await.unwrap();
        tx.commit().await.unwrap();
        eventually("all handlers run", async || seen.all().len() == 3).await;
        app.until_idle().await.unwrap();
        assert_eq!((ledger(&pool).await, seen.count("background 15")), (vec![15], 1));
    }

    #[tokio::test]
    async fn a_delayed_event_waits_in_the_outbox() {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        let app = run!(place, pool, seen).await.unwrap();
        let mut tx = evented::begin(&pool).await.unwrap();
        app.emit_in(&mut tx, Paid { entry: 7 }).after(Duration::from_hours(1)).await.unwrap();
        app.emit_in(&mut tx, Paid { entry: 9 }).await.unwrap();
        tx.commit().await.unwrap();
        eventually("the event without a delay is delivered", async || seen.all().len() == 3).await;
        // Its row goes when all of it is pushed.
        let rows =
            async || -> i64 { query_scalar("select count(*) from evented_outbox").fetch_one(&pool).await.unwrap() };
        eventually("the delayed one alone is left", async || rows().await == 1).await;
        assert_eq!(seen.count("background 7"), 0);
    }

    #[tokio::test]
    async fn a_transactional_handler_can_be_called_as_a_function() {
        let place = Place::new();
        let pool = place.pool().await;
        let mut tx = evented::begin(&pool).await.unwrap();
        book(Paid { entry: 11 }, Tx::of(&mut tx), State::new(Seen::default()), Delivery::test()).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(ledger(&pool).await, [11]);
    }

    #[tokio::test]
    async fn a_transaction_of_another_database_file_is_refused_and_nothing_is_written() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, place.pool().await, seen).await.unwrap();
        let other = open_pool(place.path("other.db")).await;
        let mut tx = evented::begin(&other).await.unwrap();
        let error = app.emit_in(&mut tx, Paid { entry: 1 }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoOutbox);
        assert!(error.to_string().contains(".outbox(pool)"), "{error}");
        drop(tx);
        // The queue's own file has evented's tables, and is not the outbox all the same.
        let queue = open_pool(place.path("evented.db")).await;
        let mut tx = evented::begin(&queue).await.unwrap();
        let error = app.emit_in(&mut tx, Paid { entry: 1 }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoOutbox);
    }

    #[tokio::test]
    async fn a_transaction_that_began_by_reading_is_told_how_to_begin() {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        let app = run!(place, pool, seen).await.unwrap();
        let mut tx = pool.begin().await.unwrap();
        let _read: i64 = query_scalar("select count(*) from ledger").fetch_one(&mut *tx).await.unwrap();
        query("insert into ledger (entry) values (5)").execute(&pool).await.unwrap();
        let error = app.emit_in(&mut tx, Paid { entry: 1 }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Database);
        assert!(error.to_string().contains("evented::begin(&pool)"), "{error}");
    }

    #[tokio::test]
    async fn no_write_is_held_up_by_a_handler_that_waits_for_a_connection() {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        let queue = format!("sqlite:{}", place.path("shop.db").display());
        let app = run!(place, pool, seen).queue(queue).await.unwrap();
        let mut tx = evented::begin(&pool).await.unwrap();
        app.emit_in(&mut tx, Paid { entry: 13 }).after(Duration::from_millis(300)).await.unwrap();
        tx.commit().await.unwrap();
        // The application holds every connection of its pool.
        let mut held = Vec::new();
        while held.len() < 4 {
            held.push(pool.acquire().await.unwrap());
        }
        eventually("the event is relayed", async || seen.count("outbox 13") == 1).await;
        let written = tokio::time::timeout(Duration::from_secs(2), app.pause("default")).await;
        written.expect("a write is not held up").unwrap();
        app.resume("default").await.unwrap();
        drop(held);
        app.until_idle().await.unwrap();
        assert_eq!(ledger(&pool).await, [13]);
    }
}

mod constraint {
    use super::*;

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    struct Broken;

    #[handler(Broken, outbox(retries = 1, backoff(fixed = "1ms")))]
    async fn violate(_event: Broken, tx: &mut Tx<Sqlite>) -> anyhow::Result<()> {
        query("insert into child (parent) values (7)").execute(&mut **tx).await?;
        Ok(())
    }

    #[tokio::test]
    async fn a_constraint_that_fails_at_the_commit_is_the_handlers_failure() {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        query("create table parent (id integer primary key)").execute(&pool).await.unwrap();
        let sql = "create table child (parent integer references parent deferrable initially deferred)";
        query(sql).execute(&pool).await.unwrap();
        let app = run!(place, pool, seen).await.unwrap();
        let mut tx = evented::begin(&pool).await.unwrap();
        app.emit_in(&mut tx, Broken).await.unwrap();
        tx.commit().await.unwrap();
        eventually("it is a dead letter", async || !app.dead_letters().await.unwrap().is_empty()).await;
        let letter = app.dead_letters().await.unwrap().remove(0);
        assert!(letter.attempts == 2 && letter.error.contains("FOREIGN KEY"), "{letter:?}");
    }
}

mod long {
    use super::*;

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    struct Long;

    #[handler(Long, outbox(retries = 0))]
    async fn hold(_event: Long, _tx: &mut Tx<Sqlite>) {
        std::future::pending::<()>().await;
    }

    #[handler(Long, outbox)]
    async fn beside(_event: Long, seen: State<Seen>) {
        seen.note("began");
        tokio::time::sleep(Duration::from_secs(3)).await;
        seen.note("ended");
    }

    #[tokio::test]
    async fn a_handler_that_holds_the_lock_has_a_third_of_the_lease_and_costs_nobody_theirs() {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        let app = run!(place, pool, seen).lease(Duration::from_secs(2)).await.unwrap();
        let mut tx = evented::begin(&pool).await.unwrap();
        for _ in 0..4 {
            app.emit_in(&mut tx, Long).await.unwrap();
        }
        tx.commit().await.unwrap();
        app.until_idle().await.unwrap();
        assert_eq!((seen.count("began"), seen.count("ended")), (4, 4));
        let letters = app.dead_letters().await.unwrap();
        let timed_out = |letter: &evented::DeadLetter| letter.error.contains("timed out after 66");
        assert!(letters.len() == 4 && letters.iter().all(timed_out), "{letters:?}");
    }
}

mod chain {
    use super::*;

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    struct Began {
        fails_first: bool,
    }

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    struct Went {
        from: String,
    }

    #[handler(Began, outbox(backoff(fixed = "1ms")))]
    async fn go_on(event: Began, tx: &mut Tx<Sqlite>, delivery: Delivery) -> anyhow::Result<()> {
        emit_in(tx, Went { from: delivery.event_id().to_string() }).await?;
        anyhow::ensure!(!event.fails_first || delivery.attempt() > 1, "the first attempt fails after its emit");
        Ok(())
    }

    #[handler(Went, outbox)]
    async fn arrive(event: Went, seen: State<Seen>, delivery: Delivery) {
        assert_eq!(event.from, delivery.correlation().to_string());
        seen.note("arrived");
    }

    #[tokio::test]
    async fn an_event_emitted_in_a_handlers_transaction_commits_with_it_and_carries_the_correlation() {
        for fails_first in [false, true] {
            let (place, seen) = (Place::new(), Seen::default());
            let pool = place.pool().await;
            let app = run!(place, pool, seen).await.unwrap();
            let mut tx = evented::begin(&pool).await.unwrap();
            app.emit_in(&mut tx, Began { fails_first }).await.unwrap();
            tx.commit().await.unwrap();
            app.until_idle().await.unwrap();
            assert_eq!(seen.all(), ["arrived"], "once, though the first attempt had emitted as well: {fails_first}");
            assert!(app.dead_letters().await.unwrap().is_empty());
        }
    }
}

mod elsewhere {
    use super::*;

    mod web {
        use super::*;

        #[event(transactional)]
        #[derive(Serialize, Deserialize)]
        pub struct Ordered;

        #[handler(Ordered, background)]
        async fn far(_event: Ordered) {}

        pub async fn start(place: &Place) -> evented::Result<evented::App> {
            run!(place, place.pool().await, Seen::default()).await
        }
    }

    mod billing {
        use super::*;

        #[handler(super::web::Ordered, outbox)]
        async fn near(_event: super::web::Ordered, seen: State<Seen>) {
            seen.note("near");
        }

        pub fn run(pool: &SqlitePool, seen: &Seen) -> evented::Run {
            evented::run().install(false).module(module_path!()).outbox(pool.clone()).state(seen.clone())
        }
    }

    #[tokio::test]
    async fn a_process_that_relays_to_anothers_queue_must_name_it() {
        let place = Place::new();
        let pool = place.pool().await;
        web::start(&place).await.unwrap().stop().await;
        let error = billing::run(&pool, &Seen::default()).await.unwrap_err().to_string();
        assert!(error.contains("`Ordered/far` of another process is on `background`"), "{error}");
        assert!(error.contains("EVENTED_QUEUE"), "{error}");
        billing::run(&pool, &Seen::default()).queue(place.queue()).await.unwrap();
    }

    #[tokio::test]
    async fn an_event_of_a_type_that_is_not_linked_and_no_catalogue_knows_is_left_for_a_later_release() {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        let app = billing::run(&pool, &seen).queue(place.queue()).await.unwrap();
        let sql = "insert into evented_outbox (event_id, event, due_at, version, emitted_at, payload)
            values (randomblob(16), 'FromTheFuture', 0, 1, unixepoch() * 1000, cast('null' as blob))";
        query(sql).execute(&pool).await.unwrap();
        let due = async || -> i64 { query_scalar("select due_at from evented_outbox").fetch_one(&pool).await.unwrap() };
        eventually("the relay put it off", async || due().await > 0).await;
        drop(app);
    }
}

mod in_transaction {
    use super::*;

    #[derive(Debug)]
    struct Refused;

    impl std::fmt::Display for Refused {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("refused")
        }
    }

    impl std::error::Error for Refused {}

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    struct Reserved {
        entry: i64,
    }

    #[handler(Reserved, in_process(in_transaction))]
    async fn reserve(event: &Reserved, tx: &mut Tx<Sqlite>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        enter(tx, event.entry).await?;
        if event.entry < 0 { Err(Refused.into()) } else { Ok(()) }
    }

    #[handler(Reserved, outbox)]
    async fn tell(event: Reserved, seen: State<Seen>) {
        seen.note(format!("told {}", event.entry));
    }

    #[tokio::test]
    async fn an_error_undoes_the_event_and_the_handlers_writes_and_the_transaction_goes_on() {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        let app = run!(place, pool, seen).await.unwrap();
        let mut tx = evented::begin(&pool).await.unwrap();
        query("insert into ledger (entry) values (100)").execute(&mut *tx).await.unwrap();
        let error = app.emit_in(&mut tx, Reserved { entry: -1 }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Handler);
        assert!(std::error::Error::source(&error).is_some_and(|error| error.downcast_ref::<Refused>().is_some()));
        app.emit_in(&mut tx, Reserved { entry: 1 }).await.unwrap();
        tx.commit().await.unwrap();
        app.until_idle().await.unwrap();
        assert_eq!(ledger(&pool).await, [1, 100]);
        assert_eq!(seen.all(), ["told 1"]);
    }
}

mod panicking {
    use evented::{Context, Error, HandlerArg, Needs};

    use super::*;

    /// An argument of the application's own that cannot be taken without a panic.
    struct Explosive;

    impl<'a, R> HandlerArg<'a, R> for Explosive {
        fn take(_: &mut Context<'a>) -> Result<Self, Error> {
            panic!("this argument panics on purpose");
        }
        fn needs(_: &mut Needs) {}
    }

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    struct Touchy;

    #[handler(Touchy, in_process(in_transaction))]
    async fn touch(_event: &Touchy, _argument: Explosive) {}

    #[tokio::test]
    async fn a_panic_while_an_argument_is_taken_undoes_the_emit_and_spares_the_emitter() {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        let app = run!(place, pool, seen).await.unwrap();
        let mut tx = evented::begin(&pool).await.unwrap();
        let error = app.emit_in(&mut tx, Touchy).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Handler);
        assert!(format!("{error:?}").contains("panicked: this argument panics on purpose"), "{error:?}");
        let rows: i64 = query_scalar("select count(*) from evented_outbox").fetch_one(&mut *tx).await.unwrap();
        assert_eq!(rows, 0);
    }
}

mod misuse {
    use super::*;

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    struct Misused {
        how: String,
    }

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Beside;

    #[handler(Beside, background)]
    async fn beside(_event: Beside) {}

    #[handler(Misused, outbox(retries = 0))]
    async fn misuse(event: Misused, tx: &mut Tx<Sqlite>, seen: State<Seen>) -> anyhow::Result<()> {
        enter(tx, 1).await?;
        match &*event.how {
            "emits beside its transaction" => emit(Beside).await?,
            "commits by itself" => {
                query("commit").execute(&mut **tx).await?;
            }
            "rolls back by itself" => {
                query("rollback").execute(&mut **tx).await?;
            }
            _ => {
                seen.note(&event.how);
                query("update evented_deliveries set lease = 1").execute(&mut **tx).await?;
            }
        }
        Ok(())
    }

    /// The dead letter's error after a handler did `how`, and what is left in the ledger.
    async fn after(how: &str) -> (String, Vec<i64>) {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        let queue = format!("sqlite:{}", place.path("shop.db").display());
        let app = run!(place, pool, seen).queue(queue).await.unwrap();
        let mut tx = evented::begin(&pool).await.unwrap();
        app.emit_in(&mut tx, Misused { how: how.to_owned() }).await.unwrap();
        tx.commit().await.unwrap();
        eventually("it is a dead letter", async || !app.dead_letters().await.unwrap().is_empty()).await;
        (app.dead_letters().await.unwrap().remove(0).error, ledger(&pool).await)
    }

    #[tokio::test]
    async fn an_emit_that_would_wait_for_the_handlers_own_transaction_fails_and_names_emit_in() {
        let (error, ledger) = after("emits beside its transaction").await;
        assert!(error.contains("emit_in(tx, ..)"), "{error}");
        assert!(ledger.is_empty());
    }

    #[tokio::test]
    async fn an_emit_that_waits_for_the_callers_own_transaction_gives_up_and_names_emit_in() {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        let queue = format!("sqlite:{}", place.path("shop.db").display());
        let app = run!(place, pool, seen).queue(queue).await.unwrap();
        let tx = evented::begin(&pool).await.unwrap();
        let error = app.emit(Beside).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotStored);
        assert!(format!("{error:?}").contains("emit_in(&mut tx, event)"), "{error:?}");
        tx.rollback().await.unwrap();
        app.emit(Beside).await.unwrap();
    }

    #[tokio::test]
    async fn a_handler_that_ends_its_transaction_itself_has_failed() {
        let (error, ledger) = after("rolls back by itself").await;
        assert!(error.contains("the handler ended its transaction itself"), "{error}");
        assert!(ledger.is_empty());
        // What it committed by itself is out of our hands; the delivery is not settled as done all the same.
        let (error, _) = after("commits by itself").await;
        assert!(error.contains("the handler ended its transaction itself"), "{error}");
    }

    #[tokio::test]
    async fn a_worker_that_lost_its_lease_cannot_commit() {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        let app = run!(place, pool, seen).lease(Duration::from_secs(1)).await.unwrap();
        let mut tx = evented::begin(&pool).await.unwrap();
        app.emit_in(&mut tx, Misused { how: "loses its lease inside".to_owned() }).await.unwrap();
        tx.commit().await.unwrap();
        // Each run takes its own lease away before it ends, so none commits. Nobody has died, and no attempt is counted.
        eventually("it runs again", async || seen.count("loses its lease inside") >= 3).await;
        assert!(ledger(&pool).await.is_empty() && app.dead_letters().await.unwrap().is_empty());
    }
}
