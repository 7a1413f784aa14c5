//! In-process handlers: inside `emit`, before it returns, with or without a started instance.

use evented::prelude::*;
use evented_tests::Seen;

mod before_run {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    static TOTAL: AtomicU64 = AtomicU64::new(0);

    #[event]
    struct Counted(u64);

    #[handler(Counted)]
    fn add(event: &Counted) {
        TOTAL.fetch_add(event.0, Ordering::Relaxed);
    }

    #[handler(Counted)]
    fn add_again(event: &Counted) {
        TOTAL.fetch_add(event.0, Ordering::Relaxed);
    }

    #[tokio::test]
    async fn an_event_with_in_process_handlers_alone_needs_no_started_instance() {
        emit(Counted(21)).await.unwrap();
        assert_eq!(TOTAL.load(Ordering::Relaxed), 42);
    }

    #[test]
    fn an_emit_to_plain_functions_allocates_nothing() {
        let waker = std::task::Waker::noop();
        let emit_once = || {
            let mut emitting = std::pin::pin!(emit(Counted(0)).into_future());
            assert!(emitting.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_ready());
        };
        // The first emit fills the slot.
        emit_once();
        assert_eq!(allocation_counter::measure(emit_once).count_total, 0);
    }
}

mod with_state {
    use super::*;

    #[event]
    struct Rang(&'static str);

    #[handler(Rang)]
    fn c_plain(event: &Rang, seen: State<Seen>) {
        seen.note(format!("c {}", event.0));
    }

    #[handler(Rang)]
    async fn a_async(event: &Rang, seen: State<Seen>) {
        tokio::task::yield_now().await;
        seen.note(format!("a {}", event.0));
    }

    #[handler(Rang)]
    fn b_failing(event: &Rang, seen: State<Seen>) -> Result<(), String> {
        seen.note(format!("b {}", event.0));
        Err("broken".to_owned())
    }

    #[handler(Rang)]
    async fn d_panicking(_event: &Rang) {
        panic!("this handler panics on purpose");
    }

    #[handler(Rang)]
    async fn e_last(event: &Rang, seen: State<Seen>) {
        seen.note(format!("e {}", event.0));
    }

    async fn start(seen: &Seen) -> evented::App {
        evented::run().install(false).module(module_path!()).state(seen.clone()).await.unwrap()
    }

    #[tokio::test]
    async fn handlers_run_one_after_the_other_in_the_order_of_their_ids() {
        let seen = Seen::default();
        start(&seen).await.emit(Rang("once")).await.unwrap();
        assert_eq!(seen.all(), ["a once", "b once", "c once", "e once"]);
    }

    #[tokio::test]
    async fn a_failure_or_a_panic_is_counted_and_never_fails_the_emitter() {
        let app = start(&Seen::default()).await;
        app.emit(Rang("first")).await.unwrap();
        app.emit(Rang("second")).await.unwrap();
        let dead = |id: &str, counts: &[evented::Count]| counts.iter().find(|count| count.handler == id).unwrap().dead;
        let counts = app.counts().await.unwrap();
        assert_eq!(dead("Rang/b_failing", &counts), 2);
        assert_eq!(dead("Rang/d_panicking", &counts), 2);
        assert_eq!(dead("Rang/c_plain", &counts), 0);
    }

    #[tokio::test]
    async fn an_emit_that_needs_state_fails_before_any_handler_ran_when_nothing_is_started() {
        let error = emit(Rang("nobody")).await.unwrap_err();
        assert_eq!(error.kind(), evented::ErrorKind::NotStarted);
        assert!(error.to_string().contains("evented::run()"), "{error}");
    }

    #[test]
    fn a_handler_stays_a_function_that_a_test_can_call() {
        let seen = State::new(Seen::default());
        c_plain(&Rang("called"), seen.clone());
        assert_eq!(seen.all(), ["c called"]);
    }
}

mod nested {
    use super::*;

    #[event]
    struct Outer;

    #[event]
    struct Inner;

    #[handler(Outer)]
    async fn goes_on(_event: &Outer) -> evented::Result {
        emit(Inner).await
    }

    #[handler(Inner)]
    fn arrives(_event: &Inner, seen: State<Seen>) {
        seen.note("inner");
    }

    #[tokio::test]
    async fn a_free_emit_inside_a_handler_uses_the_instance_whose_handler_is_running() {
        let (one, other) = (Seen::default(), Seen::default());
        let run = |seen: &Seen| evented::run().install(false).module(module_path!()).state(seen.clone());
        let (app, _beside) = (run(&one).await.unwrap(), run(&other).await.unwrap());
        app.emit(Outer).await.unwrap();
        assert_eq!((one.all().len(), other.all().len()), (1, 0));
    }
}

mod arguments {
    use evented::{Context, Error, HandlerArg, Needs};

    use super::*;

    /// An argument of the application's own.
    struct Greeting(String);

    impl<'a, R> HandlerArg<'a, R> for Greeting {
        fn take(context: &mut Context<'a>) -> Result<Self, Error> {
            Ok(Self(format!("hello, {}", *context.state::<&'static str>()?)))
        }
        fn needs(needs: &mut Needs) {
            needs.state::<&'static str>();
        }
    }

    #[event]
    struct Greeted;

    #[handler(Greeted)]
    fn greet(_event: &Greeted, seen: State<Seen>, greeting: Greeting) {
        seen.note(greeting.0);
    }

    #[tokio::test]
    async fn a_type_of_the_application_can_be_an_argument() {
        let seen = Seen::default();
        let run = evented::run().install(false).module(module_path!()).state(seen.clone());
        run.state("world").await.unwrap().emit(Greeted).await.unwrap();
        assert_eq!(seen.all(), ["hello, world"]);
    }

    #[tokio::test]
    async fn what_an_argument_of_the_application_needs_is_checked_at_the_start() {
        let error = evented::run().install(false).module(module_path!()).state(Seen::default()).await.unwrap_err();
        assert!(error.to_string().contains("State<&str>"), "{error}");
    }
}
