//! The worker: slots, leases, limits, shutdown, handlers that it does not have.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use evented::{
    prelude::*,
    sqlx::{query_as, query_scalar},
};
use evented_tests::{Place, Seen, count_of, eventually, file, tamper};
use serde::{Deserialize, Serialize};

mod stubborn {
    use std::sync::{Condvar, Mutex};

    use super::*;

    static LET_GO: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Stubborn;

    /// Sees that its time is over, and goes on.
    #[handler(Stubborn, background(retries = 0, timeout = "20ms"))]
    fn hold(_event: Stubborn, seen: State<Seen>, delivery: Delivery) {
        seen.note("began");
        while !delivery.is_cancelled() {
            std::thread::yield_now();
        }
        seen.note("goes on");
        let held = LET_GO.0.lock().unwrap();
        drop(LET_GO.1.wait_while(held, |let_go| !*let_go).unwrap());
    }

    #[tokio::test]
    async fn a_blocking_function_keeps_its_slot_and_its_delivery_until_it_returns() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).await.unwrap();
        app.emit_all((0..65).map(|_| Stubborn)).await.unwrap();
        eventually("every slot is taken and timed out", async || seen.count("goes on") == 64).await;
        assert_eq!(seen.count("began"), 64, "the last one has no slot, and no other is tried again beside itself");
        *LET_GO.0.lock().unwrap() = true;
        LET_GO.1.notify_all();
        app.until_idle().await.unwrap();
        assert_eq!((seen.count("began"), count_of(&app, "Stubborn/hold").await.dead), (65, 65));
    }
}

mod blocking {
    use super::*;

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Compute;

    #[event]
    struct Computed;

    #[handler(Compute, background)]
    fn on_the_blocking_pool(_event: Compute, seen: State<Seen>) -> evented::Result {
        seen.note("computed");
        tokio::runtime::Handle::current().block_on(emit(Computed).into_future())
    }

    #[handler(Computed)]
    fn arrives(_event: &Computed, seen: State<Seen>) {
        seen.note("emitted");
    }

    #[tokio::test]
    async fn a_plain_function_runs_on_the_blocking_pool_and_its_emits_find_the_instance() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).await.unwrap();
        app.emit(Compute).await.unwrap();
        app.until_idle().await.unwrap();
        assert_eq!(seen.all(), ["computed", "emitted"]);
    }
}

mod leases {
    use super::*;

    static RUNNING: AtomicUsize = AtomicUsize::new(0);

    struct Inside<'a>(&'a Seen);

    impl<'a> Inside<'a> {
        fn enter(seen: &'a Seen) -> Self {
            let beside = RUNNING.fetch_add(1, Ordering::SeqCst);
            seen.note(format!("beside {}", beside.min(1)));
            Self(seen)
        }
    }

    impl Drop for Inside<'_> {
        fn drop(&mut self) {
            RUNNING.fetch_sub(1, Ordering::SeqCst);
            self.0.note("left");
        }
    }

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Job {
        waits: bool,
    }

    #[handler(Job, background)]
    async fn work(event: Job, seen: State<Seen>) {
        let _inside = Inside::enter(&seen);
        if event.waits {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    /// The tests of this module count what runs at once, so they take turns.
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    #[tokio::test]
    async fn a_handler_whose_lease_was_lost_is_dropped_and_settles_nothing() {
        let _turn = TURN.lock().await;
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).lease(Duration::from_secs(1)).await.unwrap();
        app.emit(Job { waits: true }).await.unwrap();
        eventually("it runs", async || seen.count("beside 0") == 1).await;
        // Another worker's claim.
        tamper(&place, "update evented_deliveries set lease = 77, due_at = due_at + 3600000").await;
        eventually("the future is dropped", async || seen.count("left") == 1).await;
        let row: (i64, i64) =
            query_as("select lease, failed from evented_deliveries").fetch_one(&file(&place).await).await.unwrap();
        assert_eq!(row, (77, 0), "the other's lease stands, and no attempt was counted");
    }

    #[tokio::test]
    async fn a_lease_is_renewed_as_long_as_the_handler_runs() {
        let _turn = TURN.lock().await;
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).lease(Duration::from_secs(1)).await.unwrap();
        let beside = run!(place, seen).lease(Duration::from_secs(1)).await.unwrap();
        app.emit(Job { waits: true }).await.unwrap();
        eventually("it runs", async || seen.count("beside 0") == 1).await;
        let due_at = async || -> i64 {
            query_scalar("select due_at from evented_deliveries").fetch_one(&file(&place).await).await.unwrap()
        };
        let first = due_at().await;
        eventually("the lease was renewed past two of its lengths", async || due_at().await > first + 2000).await;
        assert_eq!(seen.all(), ["beside 0"], "no other worker took it");
        drop((app, beside));
    }

    /// The session 7 has died.
    const DEAD: &str = "insert into evented_sessions (id, until, lease_ms) values (7, 1, 1000)";

    #[tokio::test]
    async fn what_a_dead_worker_held_runs_beside_the_rest_and_costs_no_attempt() {
        let _turn = TURN.lock().await;
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).role(Role::Emit).await.unwrap();
        app.emit(Job { waits: true }).await.unwrap();
        app.emit_all((0..20).map(|_| Job { waits: false })).await.unwrap();
        app.stop().await;
        tamper(&place, DEAD).await;
        tamper(&place, "update evented_deliveries set lease = 1, due_at = 1, session = 7 where seq between 2 and 16")
            .await;

        // The first one runs as long as it is let, and holds up none of the others.
        let app = run!(place, seen).await.unwrap();
        eventually("all others are done", async || count_of(&app, "Job/work").await.done == 20).await;
        let count = count_of(&app, "Job/work").await;
        assert_eq!((count.retried, count.dead), (0, 0));
        let marked = "select count(*) from evented_deliveries where suspect > 0 or died_with is not null";
        assert_eq!(query_scalar::<_, i64>(marked).fetch_one(&file(&place).await).await.unwrap(), 0);
        drop(app);
    }

    #[tokio::test]
    async fn what_is_charged_with_three_deaths_is_a_dead_letter_that_tells_of_them() {
        let _turn = TURN.lock().await;
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).role(Role::Emit).await.unwrap();
        app.emit(Job { waits: false }).await.unwrap();
        app.stop().await;
        tamper(&place, DEAD).await;
        // Its third trial, in which its process died.
        let tried = "lease = 1, due_at = 1, session = 7, suspect = 2, deaths = 4, charges = 2";
        tamper(&place, &format!("update evented_deliveries set {tried}")).await;

        let app = run!(place, seen).lease(Duration::from_secs(1)).await.unwrap();
        eventually("it is a dead letter", async || !app.dead_letters().await.unwrap().is_empty()).await;
        let letter = app.dead_letters().await.unwrap().pop().unwrap();
        let told = "5 processes died while they had this delivery: 2 beside other work, then 3 that tried it as the only suspect";
        assert!(letter.error.starts_with(told), "{}", letter.error);
        assert!(seen.all().is_empty());
    }
}

mod stuck {
    use std::sync::atomic::AtomicBool;

    use super::*;

    static LET_GO: AtomicBool = AtomicBool::new(false);

    /// Ends the handlers with the test, also where it fails: the runtime waits for them.
    struct LetGo;

    impl Drop for LetGo {
        fn drop(&mut self) {
            LET_GO.store(true, Ordering::SeqCst);
        }
    }

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Stuck;

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Quick;

    /// Does not return by itself.
    #[handler(Stuck, background(queue = "stuck", timeout = "50ms"))]
    fn hang(_event: Stuck, seen: State<Seen>) {
        seen.note("hangs");
        while !LET_GO.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[handler(Quick, background)]
    async fn quick(_event: Quick, seen: State<Seen>) {
        seen.note("quick");
    }

    #[tokio::test]
    async fn a_blocking_function_past_its_time_stalls_nobody_and_a_stop_is_no_death() {
        let _let_go = LetGo;
        let (place, seen) = (Place::new(), Seen::default());
        let start = async |role| {
            let run = run!(place, seen).lease(Duration::from_secs(1)).grace(Duration::from_millis(20));
            run.role(role).await.unwrap()
        };
        let app = start(Role::Emit).await;
        app.emit(Stuck).await.unwrap();
        app.stop().await;
        for round in 1..=4 {
            let app = start(Role::All).await;
            eventually("it hangs", async || seen.count("hangs") == round).await;
            app.emit(Quick).await.unwrap();
            eventually("the others go on", async || seen.count("quick") == round).await;
            app.stop().await;
        }
        let app = start(Role::Emit).await;
        assert!(app.dead_letters().await.unwrap().is_empty(), "nobody died");
    }
}

mod limits {
    use super::*;

    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Many;

    #[handler(Many, background)]
    async fn count(_event: Many) {
        MOST.fetch_max(RUNNING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(2)).await;
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Crawling;

    #[handler(Crawling, background(queue = "slow"))]
    async fn crawl(_event: Crawling, seen: State<Seen>) {
        seen.note("began");
        std::future::pending::<()>().await;
    }

    #[tokio::test]
    async fn nothing_is_claimed_ahead_of_slow_handlers() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).role(Role::Emit).await.unwrap();
        app.emit_all((0..300).map(|_| Crawling)).await.unwrap();
        app.stop().await;
        let _app = run!(place, seen).await.unwrap();
        eventually("every slot is taken", async || seen.count("began") == 64).await;
        let leased: i64 =
            query_scalar("select count(lease) from evented_deliveries").fetch_one(&file(&place).await).await.unwrap();
        assert_eq!(leased, 64);
    }

    #[tokio::test]
    async fn no_more_of_a_queue_runs_at_once_than_it_has_slots() {
        let place = Place::new();
        let app = run!(place, Seen::default()).await.unwrap();
        app.emit_all((0..500).map(|_| Many)).await.unwrap();
        app.until_idle().await.unwrap();
        let most = MOST.load(Ordering::SeqCst);
        assert!((2..=64).contains(&most), "{most} ran at once");
    }

    /// From the 3,000th on it hangs.
    #[event]
    #[derive(Serialize, Deserialize)]
    struct Filling {
        number: u64,
    }

    static HANGING: AtomicUsize = AtomicUsize::new(0);

    #[handler(Filling, background(queue = "filling"))]
    async fn fill(event: Filling) {
        if event.number >= 3_000 {
            HANGING.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
    }

    /// Handlers that are done at once let the worker claim ahead as far as it may. Then they hang, nothing is settled any more,
    /// and what is claimed stays at the limit.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_more_of_a_queue_is_claimed_and_not_settled_than_its_limit() {
        const IN_FLIGHT: i64 = 2_048;
        let place = Place::new();
        let app = run!(place, Seen::default()).role(Role::Emit).await.unwrap();
        app.emit_all((0..9_000).map(|number| Filling { number })).await.unwrap();
        app.stop().await;
        let app = run!(place, Seen::default()).await.unwrap();
        let file = file(&place).await;
        let leased = async || -> i64 {
            query_scalar("select count(lease) from evented_deliveries").fetch_one(&file).await.unwrap()
        };
        eventually("all slots hang", async || {
            let leased = leased().await;
            assert!(leased <= IN_FLIGHT, "{leased} are claimed");
            HANGING.load(Ordering::SeqCst) == 64
        })
        .await;
        // On a quick machine that is the limit; on a busy one handlers took longer, and less was claimed ahead.
        // An emit makes the worker look for more.
        for number in 9_000..9_020 {
            app.emit(Filling { number }).await.unwrap();
            let leased = leased().await;
            assert!((64..=IN_FLIGHT).contains(&leased), "{leased} are claimed while nothing is settled");
        }
    }
}

mod shutdown {
    use super::*;

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Work {
        millis: u64,
    }

    #[handler(Work, background)]
    async fn work(event: Work, seen: State<Seen>, delivery: Delivery) {
        seen.note(format!("began attempt {}", delivery.attempt()));
        tokio::time::sleep(Duration::from_millis(event.millis)).await;
        seen.note("ended");
    }

    #[tokio::test]
    async fn a_stop_waits_for_what_runs() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).await.unwrap();
        app.emit(Work { millis: 200 }).await.unwrap();
        eventually("it began", async || !seen.all().is_empty()).await;
        app.stop().await;
        assert_eq!(seen.all(), ["began attempt 1", "ended"]);
        assert_eq!(count_of(&app, "Work/work").await.done, 1);
    }

    #[tokio::test]
    async fn a_stop_that_is_cut_short_is_gone_on_with_by_the_next() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).await.unwrap();
        app.emit(Work { millis: 300 }).await.unwrap();
        eventually("it began", async || !seen.all().is_empty()).await;
        let cut_short = tokio::time::timeout(Duration::from_millis(1), app.stop()).await;
        assert!(cut_short.is_err(), "the first stop waits for what runs");
        app.stop().await;
        assert_eq!(seen.all(), ["began attempt 1", "ended"]);
    }

    #[tokio::test]
    async fn what_outlasts_the_grace_is_given_back_at_once_and_costs_no_attempt() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).grace(Duration::from_millis(20)).await.unwrap();
        app.emit(Work { millis: 3_600_000 }).await.unwrap();
        eventually("it began", async || !seen.all().is_empty()).await;
        app.stop().await;
        tamper(&place, "update evented_deliveries set payload = cast('{\"millis\":0}' as blob)").await;

        let app = run!(place, seen).await.unwrap();
        app.until_idle().await.unwrap();
        assert_eq!(seen.all(), ["began attempt 1", "began attempt 1", "ended"]);
    }
}

mod unknown {
    use super::*;

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Known;

    mod here {
        use super::*;

        #[handler(Known, background)]
        async fn near(_event: Known, seen: State<Seen>) {
            seen.note("near");
        }

        pub async fn start(place: &Place, seen: &Seen) -> evented::App {
            run!(place, seen).await.unwrap()
        }
    }

    mod there {
        use super::*;

        #[handler(Known, background, aliases("Known/formerly_far"))]
        async fn far(_event: Known, seen: State<Seen>) {
            seen.note("far");
        }

        pub async fn start(place: &Place, seen: &Seen) -> evented::App {
            run!(place, seen).await.unwrap()
        }
    }

    #[tokio::test]
    async fn a_worker_leaves_the_deliveries_of_handlers_that_it_does_not_have() {
        let (place, seen) = (Place::new(), Seen::default());
        there::start(&place, &seen).await.stop().await;

        let near = here::start(&place, &seen).await;
        near.emit(Known).await.unwrap();
        near.until_idle().await.unwrap();
        assert_eq!(seen.all(), ["near"]);
        let far = count_of(&near, "Known/far").await;
        assert_eq!((far.linked, far.waiting, far.dead), (false, 1, 0));

        there::start(&place, &seen).await.until_idle().await.unwrap();
        assert_eq!(seen.all(), ["near", "far"]);
    }

    #[tokio::test]
    async fn a_renamed_handler_runs_what_was_stored_under_its_earlier_name_and_gets_new_events_once() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = there::start(&place, &seen).await;
        app.stop().await;
        // What a release before the rename left: the handler under its earlier name, and a delivery for it.
        tamper(&place, "update evented_handlers set id = 'Known/formerly_far', aliases = '[]' where id = 'Known/far'")
            .await;
        let web = evented::run().install(false).module("no::such::module").role(Role::Emit).queue(place.queue()).await;
        web.unwrap().emit(Known).await.unwrap();

        let app = there::start(&place, &seen).await;
        app.until_idle().await.unwrap();
        assert_eq!(seen.all(), ["far"]);
        app.emit(Known).await.unwrap();
        app.until_idle().await.unwrap();
        assert_eq!(seen.all(), ["far", "far"]);
    }
}

mod still {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
        time::{Duration, Instant},
    };

    use evented::sqlx::{Connection, SqliteConnection, query, sqlite::SqliteConnectOptions};

    use super::*;

    static STANDS: AtomicBool = AtomicBool::new(true);

    #[event(id = "worker.stood")]
    #[derive(Serialize, Deserialize)]
    struct Stood {
        number: u32,
    }

    /// The first run of the first one holds up its process's only thread.
    #[handler(Stood, background, id = "worker.stand")]
    async fn stand(event: Stood, seen: State<Seen>) {
        seen.note(format!("began {}", event.number));
        if event.number == 0 && STANDS.swap(false, Ordering::SeqCst) {
            let until = Instant::now() + Duration::from_secs(3);
            while Instant::now() < until {
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    fn run(place: &Place, seen: &Seen) -> evented::Run {
        let run = evented::run().install(false).module(module_path!()).queue(place.queue()).state(seen.clone());
        run.lease(Duration::from_secs(1)).grace(Duration::from_secs(1))
    }

    /// Its lease cannot be renewed in time, and is over when it could begin.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_claimed_delivery_does_not_begin_after_its_lease_has_ended() {
        let (place, first, second) = (Place::new(), Seen::default(), Seen::default());
        let emits = run(&place, &first).role(Role::Emit).await.unwrap();
        emits.emit_all((0..2).map(|number| Stood { number })).await.unwrap();
        // It claims nothing anew when it goes on: it would have a lease for that.
        let stands = thread::spawn({
            let (run, first) = (run(&place, &first).role(Role::Work), first.clone());
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let app = run.await.unwrap();
                    eventually("it has stood still", async || first.count("began 0") == 1).await;
                    app.stop().await;
                });
            }
        });
        eventually("the first has begun", async || first.count("began 0") == 1).await;
        let options = SqliteConnectOptions::new().filename(place.path("evented.db"));
        let mut holder = SqliteConnection::connect_with(&options).await.unwrap();
        query("begin immediate").execute(&mut holder).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        holder.close().await.unwrap();
        let other = run(&place, &second).role(Role::Work).await.unwrap();
        eventually("another has the second one", async || second.count("began 1") == 1).await;
        stands.join().unwrap();
        assert_eq!(first.all(), ["began 0"], "the second one's lease was over");
        other.stop().await;
    }
}
