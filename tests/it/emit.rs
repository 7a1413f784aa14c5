//! `emit` on the background route: what is stored, for whom, and what it answers.

use std::time::Duration;

use evented::{EventId, prelude::*, sqlx::query_scalar};
use evented_tests::{Place, Seen, eventually, open_pool, tamper};
use serde::{Deserialize, Serialize};

#[event(aliases("OldPing"))]
#[derive(Serialize, Deserialize)]
struct Ping {
    number: u64,
}

#[handler(Ping, background)]
async fn first(event: Ping, seen: State<Seen>, delivery: Delivery) {
    assert_eq!(delivery.correlation(), delivery.event_id());
    seen.note(format!("first {}", event.number));
}

#[handler(Ping, background(queue = "second"))]
async fn second(event: &Ping, seen: State<Seen>) {
    seen.note(format!("second {}", event.number));
}

#[handler(Ping)]
fn at_once(event: &Ping, seen: State<Seen>) {
    seen.note(format!("at once {}", event.number));
}

/// An instance with the handlers of this module.
fn run(place: &Place, seen: &Seen) -> evented::Run {
    evented::run().install(false).module(module_path!()).queue(place.queue()).state(seen.clone())
}

/// An instance that links no handler, like a web process beside a worker.
fn run_without_handlers(place: &Place) -> evented::Run {
    evented::run().install(false).module("no::such::module").queue(place.queue()).role(Role::Emit)
}

/// How many deliveries are stored.
async fn stored(place: &Place) -> i64 {
    let pool = open_pool(place.path("evented.db")).await;
    query_scalar("select count(*) from evented_deliveries").fetch_one(&pool).await.unwrap()
}

#[tokio::test]
async fn each_handler_of_an_event_has_a_delivery_of_its_own() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run(&place, &seen).await.unwrap();
    app.emit(Ping { number: 7 }).await.unwrap();
    app.until_idle().await.unwrap();
    let mut all = seen.all();
    all.sort();
    assert_eq!(all, ["at once 7", "first 7", "second 7"]);
}

#[tokio::test]
async fn what_was_stored_survives_the_instance_that_stored_it() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run(&place, &seen).role(Role::Emit).await.unwrap();
    app.emit(Ping { number: 1 }).await.unwrap();
    app.stop().await;
    assert_eq!(seen.all(), ["at once 1"], "a process that only emits runs no delivery");

    run(&place, &seen).await.unwrap().until_idle().await.unwrap();
    assert_eq!(seen.all().len(), 3);
}

#[tokio::test]
async fn a_process_that_links_no_handler_stores_for_those_of_the_catalogue() {
    let (place, seen) = (Place::new(), Seen::default());
    run(&place, &seen).await.unwrap().stop().await;

    run_without_handlers(&place).await.unwrap().emit(Ping { number: 2 }).await.unwrap();
    assert_eq!(stored(&place).await, 2);

    run(&place, &seen).await.unwrap().until_idle().await.unwrap();
    assert_eq!((seen.count("first 2"), seen.count("second 2")), (1, 1));
}

#[tokio::test]
async fn a_process_that_runs_already_learns_of_handlers_that_another_adds() {
    let (place, seen) = (Place::new(), Seen::default());
    let web = run_without_handlers(&place).await.unwrap();
    web.emit(Ping { number: 3 }).await.unwrap();
    assert_eq!(stored(&place).await, 0, "nobody has asked for it yet");

    let worker = run(&place, &seen).await.unwrap();
    eventually("the web process stores for the new handlers", async || {
        web.emit(Ping { number: 4 }).await.unwrap();
        worker.until_idle().await.unwrap();
        seen.count("first 4") > 0
    })
    .await;
}

#[tokio::test]
async fn an_event_that_was_renamed_reaches_the_handlers_of_a_release_before_and_after() {
    let (place, seen) = (Place::new(), Seen::default());
    run(&place, &seen).await.unwrap().stop().await;
    // What a release before the rename of the event has recorded.
    let before = "update evented_handlers
        set id = 'OldPing/' || substr(id, 6), event = 'OldPing', aliases = '[]', event_aliases = '[]'
        where event = 'Ping'";
    tamper(&place, before).await;
    run_without_handlers(&place).await.unwrap().emit(Ping { number: 11 }).await.unwrap();
    assert_eq!(stored(&place).await, 2);

    let app = run(&place, &seen).await.unwrap();
    app.until_idle().await.unwrap();
    assert_eq!((seen.count("first 11"), seen.count("second 11")), (1, 1));
    app.emit(Ping { number: 13 }).await.unwrap();
    app.until_idle().await.unwrap();
    assert_eq!((seen.count("first 13"), seen.count("second 13")), (1, 1), "once, under its new name");
}

#[tokio::test]
async fn a_retired_handler_gets_nothing_more() {
    let (place, seen) = (Place::new(), Seen::default());
    run(&place, &seen).await.unwrap().stop().await;

    let web = run_without_handlers(&place).await.unwrap();
    assert!(web.retire("Ping/second").await.unwrap().was_there);
    assert!(!web.retire("Ping/second").await.unwrap().was_there);
    web.emit(Ping { number: 5 }).await.unwrap();
    assert_eq!(stored(&place).await, 1);
}

#[tokio::test]
async fn emitting_the_same_id_again_stores_nothing_even_after_the_first_is_done() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run(&place, &seen).await.unwrap();
    for _ in 0..3 {
        app.emit(Ping { number: 6 }).id(EventId::from_key("ping 6")).await.unwrap();
        app.until_idle().await.unwrap();
    }
    assert_eq!((seen.count("first 6"), seen.count("second 6"), seen.count("at once 6")), (1, 1, 3));
}

#[event]
#[derive(Serialize, Deserialize)]
struct Pong;

#[handler(Pong, background)]
async fn answer(_event: Pong, seen: State<Seen>) {
    seen.note("pong");
}

#[tokio::test]
async fn events_of_two_types_may_share_an_id() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run(&place, &seen).await.unwrap();
    let key = EventId::from_key("order 17");
    app.emit(Ping { number: 10 }).id(key).await.unwrap();
    app.emit(Pong).id(key).await.unwrap();
    app.until_idle().await.unwrap();
    assert_eq!((seen.count("first 10"), seen.count("pong")), (1, 1));
}

#[tokio::test]
async fn functions_that_emit_can_be_called_in_the_scope_of_an_instance() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run(&place, &seen).await.unwrap();
    app.scope(async { evented::emit(Ping { number: 12 }).await }).await.unwrap();
    assert_eq!(seen.count("at once 12"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_at_once_on_a_new_file_all_start() {
    for _ in 0..10 {
        let (place, seen) = (Place::new(), Seen::default());
        let starts: Vec<_> = (0..4).map(|_| tokio::spawn(run(&place, &seen).into_future())).collect();
        for start in starts {
            start.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn a_delayed_event_waits_while_the_in_process_handlers_run_at_once() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run(&place, &seen).await.unwrap();
    app.emit(Ping { number: 8 }).after(Duration::from_hours(1)).await.unwrap();
    app.emit(Ping { number: 9 }).await.unwrap();
    eventually("the event without a delay is done", async || seen.count("second 9") + seen.count("first 9") == 2).await;
    assert_eq!((seen.count("at once 8"), seen.count("first 8")), (1, 0));
    assert_eq!(stored(&place).await, 2);
}

#[tokio::test]
async fn many_events_are_stored_in_one_write() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run(&place, &seen).await.unwrap();
    app.emit_all((0..200).map(|number| Ping { number })).await.unwrap();
    app.until_idle().await.unwrap();
    assert_eq!(seen.all().len(), 600);
    assert!((0..200).all(|number| seen.count(&format!("first {number}")) == 1));
}

/// How many transactions were committed to the queue's file since its log of writes began: the last frame of each says how long
/// the file is after it, see <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.
fn commits(place: &Place) -> usize {
    let log = std::fs::read(place.path("evented.db-wal")).unwrap();
    let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap());
    let (page, salt) = (number(8) as usize, (number(16), number(20)));
    let frames = (32..).step_by(24 + page).take_while(|at| at + 24 + page <= log.len());
    frames.filter(|at| (number(at + 8), number(at + 12)) == salt && number(at + 4) > 0).count()
}

#[tokio::test]
async fn an_emit_is_one_commit_whatever_the_number_of_handlers_and_events() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run(&place, &seen).role(Role::Emit).await.unwrap();
    // The first opens the writer's connection.
    app.emit(Ping { number: 1 }).await.unwrap();
    let before = commits(&place);
    app.emit(Ping { number: 2 }).await.unwrap();
    assert_eq!(commits(&place) - before, 1, "one event, two stored handlers");
    app.emit_all((0..200).map(|number| Ping { number })).await.unwrap();
    assert_eq!(commits(&place) - before, 2, "200 events");
    assert_eq!(stored(&place).await, 2 * 202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_emits_are_all_stored_and_run_once() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run(&place, &seen).await.unwrap();
    let emits = (0..300).map(|number| tokio::spawn(app.emit(Ping { number }).into_future()));
    for emit in emits.collect::<Vec<_>>() {
        emit.await.unwrap().unwrap();
    }
    app.until_idle().await.unwrap();
    assert!((0..300).all(|number| seen.count(&format!("first {number}")) == 1));
}

#[tokio::test]
async fn a_payload_over_the_limit_is_refused_and_nothing_is_stored() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run(&place, &seen).role(Role::Emit).await.unwrap();
    let error = app.emit(Big { text: "x".repeat(300_000) }).await.unwrap_err();
    assert_eq!(error.kind(), evented::ErrorKind::Unstorable);
    assert!(error.to_string().contains("262144"), "{error}");
    assert_eq!(stored(&place).await, 0);
}

#[event]
#[derive(Serialize, Deserialize)]
struct Big {
    text: String,
}

#[handler(Big, background)]
async fn weigh(event: Big) {
    drop(event.text);
}

#[tokio::test]
async fn after_a_stop_an_emit_says_that_nothing_is_started() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run(&place, &seen).await.unwrap();
    app.stop().await;
    let error = app.emit(Ping { number: 1 }).await.unwrap_err();
    assert_eq!(error.kind(), evented::ErrorKind::NotStarted);
    assert!(seen.all().is_empty());
}

mod origin {
    use std::sync::{Arc, Mutex};

    use evented::{EventId, Traces};

    use super::*;

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Opened;

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Followed;

    #[handler(Opened, background)]
    async fn follow(_event: Opened, seen: State<Seen>, delivery: Delivery) -> evented::Result {
        seen.note(format!("began {} {:?} {:?}", delivery.correlation(), delivery.causation(), delivery.trace()));
        emit(Followed).await
    }

    #[handler(Opened)]
    async fn follow_at_once(_event: &Opened) -> evented::Result {
        emit(Followed).await
    }

    #[handler(Followed, background)]
    fn end(_event: Followed, seen: State<Seen>, delivery: Delivery) {
        seen.note(format!("followed {} {:?} {:?}", delivery.correlation(), delivery.causation(), delivery.trace()));
    }

    /// Traces only what the test emits, and notes what is linked.
    struct Fake(Arc<Mutex<Vec<String>>>);

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    impl Traces for Fake {
        fn current(&self) -> Option<String> {
            std::thread::current().name().is_some_and(|name| name.contains("origin")).then(|| TRACE.to_owned())
        }

        fn link(&self, _span: &tracing::Span, traceparent: &str) {
            self.0.lock().unwrap().push(traceparent.to_owned());
        }
    }

    #[tokio::test]
    async fn what_handlers_emit_names_the_first_event_the_one_before_it_and_the_trace() {
        let (place, seen, linked) = (Place::new(), Seen::default(), Arc::default());
        let app = run!(place, seen).traces(Fake(Arc::clone(&linked))).await.unwrap();
        let id = EventId::from_key("the first");
        app.emit(Opened).id(id).await.unwrap();
        app.until_idle().await.unwrap();
        let trace = Some(TRACE);
        assert_eq!(seen.count(&format!("began {id} None {trace:?}")), 1, "{:?}", seen.all());
        // From the handler in the worker, and from the one inside the emit.
        assert_eq!(seen.count(&format!("followed {id} {:?} {trace:?}", Some(id))), 2, "{:?}", seen.all());
        assert_eq!(linked.lock().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn what_handlers_emit_inside_emit_all_names_their_own_event() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).await.unwrap();
        app.emit_all([Opened, Opened]).await.unwrap();
        app.until_idle().await.unwrap();
        let seen = seen.all();
        let began: Vec<_> = seen.iter().filter_map(|line| line.strip_prefix("began ")?.split(' ').next()).collect();
        assert_eq!(began.len(), 2, "{seen:?}");
        for id in began {
            let id: EventId = id.parse().unwrap();
            let of_both = format!("followed {id} {:?} None", Some(id));
            assert_eq!(seen.iter().filter(|line| **line == of_both).count(), 2, "{seen:?}");
        }
    }
}
