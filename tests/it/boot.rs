//! `run()`: what it checks, what it refuses, and that it says all of it at once.

use std::time::Duration;

use evented::{
    ErrorKind, Route,
    prelude::*,
    sqlx::{
        SqlitePool, query,
        sqlite::{SqliteConnectOptions, SqliteJournalMode},
    },
};
use evented_tests::{Place, Seen, open_pool};
use serde::{Deserialize, Serialize};

mod incomplete {
    use super::*;

    struct Mailer;
    struct Metrics;

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    struct Checked;

    #[handler(Checked, background)]
    async fn mail(_event: Checked, _mailer: State<Mailer>, _metrics: State<Metrics>) {}

    #[handler(Checked, outbox)]
    async fn book(_event: Checked, _tx: &mut Tx<Sqlite>) {}

    #[handler(Checked, outbox)]
    async fn tell(_event: Checked) {}

    #[handler(Checked, in_process(in_transaction))]
    fn note(_event: &Checked) {}

    /// The problems of a start with what is given, a line each.
    async fn problems(run: evented::Run) -> Vec<String> {
        let error = run.install(false).module(module_path!()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Boot);
        error.to_string().lines().skip(1).map(|line| line.trim_start_matches("  - ").to_owned()).collect()
    }

    #[tokio::test]
    async fn all_problems_are_reported_at_once_each_with_its_place() {
        let place = Place::new();
        let problems = problems(evented::run().queue(place.queue()).lease(Duration::from_millis(10))).await;
        let expected = [
            ("`.lease(10ms)`", "a second or more"),
            ("handler `Checked/book` (tests/it/boot.rs:", "takes `&mut Tx<Sqlite>`"),
            ("handler `Checked/mail` (tests/it/boot.rs:", "`State<it::boot::incomplete::Mailer>`"),
            ("handler `Checked/mail` (tests/it/boot.rs:", "`State<it::boot::incomplete::Metrics>`"),
            ("handler `Checked/note` (tests/it/boot.rs:", "runs inside `emit_in`"),
            ("handler `Checked/tell` (tests/it/boot.rs:", "is on the `outbox` route"),
        ];
        for (who, what) in expected {
            assert!(
                problems.iter().any(|line| line.contains(who) && line.contains(what)),
                "{who} {what}: {problems:#?}"
            );
        }
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    }

    #[tokio::test]
    async fn what_was_missing_is_no_problem_once_it_is_given() {
        let place = Place::new();
        let run = evented::run().install(false).module(module_path!()).queue(place.queue());
        run.outbox(place.pool().await).state(Mailer).state(Metrics).await.unwrap();
    }

    #[tokio::test]
    async fn two_values_of_one_type_and_two_outboxes_are_refused() {
        let place = Place::new();
        let run = evented::run().queue(place.queue()).state(Mailer).state(Metrics).state(Mailer);
        let problems = problems(run.outbox(place.pool().await).outbox(place.pool().await)).await;
        assert_eq!(problems.len(), 2, "{problems:#?}");
        assert!(problems[0].contains("two values of type `it::boot::incomplete::Mailer`"), "{}", problems[0]);
        assert!(problems[1].contains("two pools"), "{}", problems[1]);
    }

    #[tokio::test]
    async fn an_outbox_that_is_not_in_wal_mode_is_refused_and_left_as_it_is() {
        let place = Place::new();
        let options = SqliteConnectOptions::new().filename(place.path("shop.db")).create_if_missing(true);
        let pool = SqlitePool::connect_with(options.journal_mode(SqliteJournalMode::Delete)).await.unwrap();
        let run = evented::run().queue(place.queue()).state(Mailer).state(Metrics).outbox(pool.clone());
        let error = run.install(false).module(module_path!()).await.unwrap_err().to_string();
        assert!(error.contains("could not start: 1 problem\n"), "{error}");
        assert!(error.contains("shop.db is in journal mode `delete`"), "{error}");
        assert!(error.contains("pragma journal_mode = wal"), "{error}");
    }
}

mod queue {
    use super::*;

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Queued;

    #[handler(Queued, background(queue = "mail"))]
    async fn work(_event: Queued) {}

    #[handler(Queued, id = "queued.again", background)]
    fn again(_event: Queued) {}

    #[handler(Queued)]
    fn beside(_event: &Queued) {}

    async fn refused(run: evented::Run) -> String {
        run.install(false).module(module_path!()).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_queue_of_another_kind_in_memory_or_with_an_unknown_setting_is_refused() {
        let unknown = refused(evented::run().queue("carrier-pigeon://loft")).await;
        assert!(unknown.contains("`carrier-pigeon://loft`") && unknown.contains("sqlite:queue.db"), "{unknown}");
        let memory = refused(evented::run().queue("sqlite::memory:")).await;
        assert!(memory.contains("in memory") && memory.contains("name a file"), "{memory}");
        let off = refused(evented::run().queue("sqlite:evented.db?synchronous=off")).await;
        assert!(off.contains("?synchronous=off`") && off.contains("`full`, `extra` or `normal`"), "{off}");
        let nowhere = refused(evented::run().queue("sqlite:/no/such/folder/evented.db")).await;
        assert!(nowhere.contains("/no/such/folder/evented.db"), "{nowhere}");
        for (url, meant) in
            [("sqlit:evented.db", "sqlite:"), ("postgers://shop", "postgres:"), ("reddis://h", "redis:")]
        {
            let slip = refused(evented::run().queue(url)).await;
            assert!(slip.contains(&format!("was `{meant}` meant?")) && !slip.contains("shop"), "{slip}");
        }
        let unknown = refused(evented::run().queue("sqlite:evented.db?sync=normal")).await;
        assert!(unknown.contains("the parameter `sync`, which is none of `synchronous`, `mode`"), "{unknown}");
        let unwritten = refused(evented::run().queue("sqlite:evented.db?mode=ro")).await;
        assert!(unwritten.contains("says `mode=ro`, and a queue is written to"), "{unwritten}");
    }

    #[tokio::test]
    async fn a_queue_promises_to_survive_a_power_cut_unless_its_url_says_otherwise() {
        let place = Place::new();
        let promise = async |parameters: &str| {
            let url = format!("{}{parameters}", place.queue());
            evented::store::open_queue(&url).await.unwrap().about.promise().to_owned()
        };
        assert!(promise("").await.ends_with("and a power cut"));
        assert!(promise("?synchronous=extra").await.ends_with("and a power cut"));
        assert!(promise("?synchronous=normal").await.ends_with("a power cut may lose the last commits"));
    }

    #[tokio::test]
    async fn tables_of_a_newer_release_are_refused_only_if_they_say_so() {
        let place = Place::new();
        let start = async || evented::run().install(false).module(module_path!()).queue(place.queue()).await;
        start().await.unwrap().stop().await;
        let file = open_pool(place.path("evented.db")).await;
        query("update evented_schema set version = 9").execute(&file).await.unwrap();
        start().await.unwrap().stop().await;
        query("update evented_schema set min_compatible = 8").execute(&file).await.unwrap();
        let error = start().await.unwrap_err().to_string();
        assert!(error.contains("schema 9, which needs code of schema 8 or newer"), "{error}");
    }

    #[test]
    fn the_catalog_lists_exactly_what_is_linked() {
        let here = |registered: &evented::Registered| registered.place.module == module_path!();
        let found: Vec<_> = evented::catalog().into_iter().filter(here).collect();
        let found: Vec<_> = found.iter().map(|found| (&*found.handler, found.event, found.route)).collect();
        let expected = [
            ("Queued/beside", "Queued", Route::InProcess),
            ("Queued/work", "Queued", Route::Background),
            ("queued.again", "Queued", Route::Background),
        ];
        assert_eq!(found, expected);
    }
}

mod roles {
    use super::*;

    #[event]
    struct Local;

    #[handler(Local)]
    fn here(_event: &Local) {}

    #[tokio::test]
    async fn no_handler_at_all_is_refused_with_the_likely_reason() {
        let error = evented::run().install(false).module("no::such::module").await.unwrap_err().to_string();
        assert!(
            error.contains("no handler is registered") && error.contains("evented::link!(the_crate, ..);"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_process_that_only_emits_needs_no_handler() {
        let place = Place::new();
        let run = evented::run().install(false).module("no::such::module").role(Role::Emit);
        run.queue(place.queue()).await.unwrap();
    }

    #[tokio::test]
    async fn a_worker_without_a_stored_handler_is_refused() {
        let run = evented::run().install(false).module(module_path!()).role(Role::Work);
        let error = run.await.unwrap_err().to_string();
        assert!(error.contains("a worker needs a handler on `background` or `outbox`"), "{error}");
    }
}

mod greedy {
    use super::*;

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    struct Greedy;

    /// Hides the second transaction from the attribute, which looks at the spelling.
    type Second<'a> = &'a mut Tx<Sqlite>;

    #[handler(Greedy, outbox)]
    async fn take_two(_event: Greedy, _one: &mut Tx<Sqlite>, _two: Second<'_>) {}

    #[tokio::test]
    async fn a_handler_with_two_transactions_is_refused() {
        let place = Place::new();
        let run = evented::run().install(false).module(module_path!()).queue(place.queue());
        let error = run.outbox(place.pool().await).await.unwrap_err().to_string();
        assert!(error.contains("takes `&mut Tx` more than once; a transaction has one user"), "{error}");
    }
}

mod installed {
    use super::*;

    #[event]
    struct Bell;

    #[handler(Bell)]
    fn ring(_event: &Bell, seen: State<Seen>) {
        seen.note("rang");
    }

    /// The one test that starts the process's own instance.
    #[tokio::test]
    async fn a_process_has_one_instance_of_its_own_until_it_has_stopped() {
        let start = async |seen: &Seen| evented::run().module(module_path!()).state(seen.clone()).await;
        let seen = Seen::default();
        let app = start(&seen).await.unwrap();
        emit(Bell).await.unwrap();
        let error = start(&seen).await.unwrap_err().to_string();
        assert!(error.contains("started already") && error.contains(".install(false)"), "{error}");
        app.stop().await;
        assert_eq!(emit(Bell).await.unwrap_err().kind(), ErrorKind::NotStarted);

        let app = start(&seen).await.unwrap();
        emit(Bell).await.unwrap();
        assert_eq!(seen.all(), ["rang", "rang"]);
        app.stop().await;
    }
}

mod given {
    use std::sync::Arc;

    use evented::{
        store::{About, Identity, Limits, Store, Term},
        testing::{Clock, Model},
    };
    use evented_tests::{Seen, eventually};

    use super::*;

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Given {
        number: u32,
        room: u32,
    }

    #[handler(Given, background(ordered_by = "room"))]
    async fn take(event: Given, seen: State<Seen>) {
        seen.note(event.number.to_string());
    }

    /// The same store, which says that it keeps no order.
    struct Unordered(Arc<dyn About>);

    impl About for Unordered {
        fn name(&self) -> &str {
            self.0.name()
        }
        fn identity(&self) -> Identity {
            self.0.identity()
        }
        fn limits(&self) -> Limits {
            self.0.limits()
        }
        fn promise(&self) -> &str {
            self.0.promise()
        }
        fn close(&self) {
            self.0.close();
        }
        fn keeps(&self) -> &[Term] {
            &[Term::Priority, Term::Unique]
        }
    }

    #[tokio::test]
    async fn a_store_that_is_open_is_the_queue_where_it_keeps_what_is_asked() {
        let seen = Seen::default();
        let model = Model::new(Clock::real()).store();
        let start =
            |queue: &Store| evented::run().install(false).module(module_path!()).state(seen.clone()).queue(queue);
        let unordered = Store { about: Arc::new(Unordered(Arc::clone(&model.about))), ..model.clone() };
        let refused = start(&unordered).await.unwrap_err().to_string();
        assert!(
            refused.contains("`Given/take`") && refused.contains("asks for `ordered_by`, which its store"),
            "{refused}"
        );
        let app = start(&model).await.unwrap();
        app.emit_all((0..3).map(|number| Given { number, room: 7 })).await.unwrap();
        eventually("all are handled", async || seen.all() == ["0", "1", "2"]).await;
        app.stop().await;
    }
}
