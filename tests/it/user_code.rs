//! The application's code at every edge may panic: in `Serialize` and `Deserialize`, in what errors say, in `Clone`, in any
//! `Drop`. What it was called for fails, and nothing else.

use std::{fmt, panic::panic_any, sync::atomic::AtomicBool, sync::atomic::Ordering};

use evented::{ErrorKind, prelude::*, sqlx::query_scalar};
use evented_tests::{Place, Seen, count_of};
use serde::{Deserialize, Serialize};

/// Panics when it is dropped, as often as it is told to: with a value that does the same once less.
#[derive(Debug)]
struct Bomb(u8);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 > 0 {
            panic_any(Self(self.0 - 1));
        }
    }
}

/// An error that panics wherever it is looked at.
#[derive(Debug)]
struct Mute(#[expect(dead_code, reason = "it is there to be dropped")] Bomb);

impl fmt::Display for Mute {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic_any(Bomb(2));
    }
}

impl std::error::Error for Mute {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        panic_any(Bomb(2));
    }
}

/// A payload, and how its own code misbehaves.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Trap {
    how: String,
    #[serde(serialize_with = "serialize", deserialize_with = "deserialize")]
    inner: String,
}

fn serialize<S: serde::Serializer>(inner: &str, to: S) -> Result<S::Ok, S::Error> {
    if inner == "serialize" { panic_any(Bomb(2)) } else { to.serialize_str(inner) }
}

fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let inner = String::deserialize(from)?;
    if inner == "deserialize" { panic_any(Bomb(2)) } else { Ok(inner) }
}

impl Trap {
    fn new(how: &str) -> Self {
        Self { how: how.to_owned(), inner: how.to_owned() }
    }

    /// What a handler does with it.
    fn spring(&self) -> Result<(), Mute> {
        match &*self.how {
            "panic" => panic_any(Bomb(2)),
            "error" => Err(Mute(Bomb(2))),
            _ => Ok(()),
        }
    }
}

impl Clone for Trap {
    fn clone(&self) -> Self {
        if self.how == "clone" { panic_any(Bomb(2)) } else { Self { how: self.how.clone(), inner: self.inner.clone() } }
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        if self.how == "drop" {
            panic_any(Bomb(2));
        }
    }
}

/// A local of a handler's future.
struct Local(bool);

impl Drop for Local {
    fn drop(&mut self) {
        if self.0 {
            panic_any(Bomb(2));
        }
    }
}

const EDGES: [&str; 5] = ["panic", "error", "clone", "drop", "calm"];

mod in_process {
    use super::*;

    #[event]
    #[derive(Clone)]
    struct Sprung(Trap);

    #[handler(Sprung)]
    fn a_plain(event: &Sprung) -> Result<(), Mute> {
        event.0.spring()
    }

    #[handler(Sprung)]
    async fn b_async(event: &Sprung) -> Result<(), Mute> {
        tokio::task::yield_now().await;
        event.0.spring()
    }

    #[handler(Sprung)]
    fn c_by_value(event: Sprung) -> Result<(), Mute> {
        event.0.spring()
    }

    #[handler(Sprung)]
    fn d_last(event: &Sprung, seen: State<Seen>) {
        seen.note(&event.0.how);
    }

    #[tokio::test]
    async fn an_emit_is_ok_and_the_other_handlers_run() {
        let seen = Seen::default();
        let app = evented::run().install(false).module(module_path!()).state(seen.clone()).await.unwrap();
        for how in EDGES {
            app.emit(Sprung(Trap::new(how))).await.unwrap();
        }
        app.emit_all(EDGES.map(|how| Sprung(Trap::new(how)))).await.unwrap();
        assert_eq!(seen.all(), [EDGES, EDGES].concat());
        let counts = app.counts().await.unwrap();
        let failed = |id: &str| counts.iter().find(|count| count.handler == id).unwrap().dead;
        assert_eq!([failed("Sprung/a_plain"), failed("Sprung/b_async"), failed("Sprung/c_by_value")], [4, 4, 8]);
    }

    mod alone {
        use super::*;

        static RAN: AtomicBool = AtomicBool::new(false);

        #[event]
        struct Unstarted(Trap);

        #[handler(Unstarted)]
        fn a_springs(event: &Unstarted) -> Result<(), Mute> {
            event.0.spring()
        }

        #[handler(Unstarted)]
        fn b_runs(_event: &Unstarted) {
            RAN.store(true, Ordering::Relaxed);
        }

        #[tokio::test]
        async fn also_where_nothing_is_started() {
            for how in EDGES {
                emit(Unstarted(Trap::new(how))).await.unwrap();
                assert!(RAN.swap(false, Ordering::Relaxed), "{how}");
            }
            evented::emit_all(EDGES.map(|how| Unstarted(Trap::new(how)))).await.unwrap();
        }
    }
}

mod stored {
    use std::time::Duration;

    use super::*;

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Kept(Trap);

    #[handler(Kept, background(retries = 0))]
    async fn in_the_loop(event: &Kept) -> Result<(), Mute> {
        event.0.spring()
    }

    #[handler(Kept, background(retries = 0))]
    fn on_a_thread(event: &Kept) -> Result<(), Mute> {
        event.0.spring()
    }

    #[handler(Kept, background(retries = 0))]
    async fn in_tx(event: &Kept, _tx: &mut Tx<Sqlite>) -> Result<(), Mute> {
        event.0.spring()
    }

    #[handler(Kept, background(retries = 0, timeout = "20ms"))]
    async fn out_of_time(event: &Kept) {
        let _local = Local(event.0.how == "local");
        if event.0.how == "local" {
            tokio::time::sleep(Duration::from_hours(1)).await;
        }
    }

    #[tokio::test]
    async fn a_delivery_fails_by_its_handler_alone_and_the_worker_goes_on() {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        let app = run!(place, seen).outbox(pool).await.unwrap();
        for how in ["panic", "error", "drop", "deserialize", "local", "calm"] {
            app.emit(Kept(Trap::new(how))).await.unwrap();
        }
        let error = app.emit(Kept(Trap::new("serialize"))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unstorable);
        app.emit_all(["calm", "calm"].map(|how| Kept(Trap::new(how)))).await.unwrap();
        app.until_idle().await.unwrap();
        for handler in ["Kept/in_the_loop", "Kept/on_a_thread", "Kept/in_tx"] {
            let count = count_of(&app, handler).await;
            // It did well where its event's `Drop` alone panics.
            assert_eq!((count.done, count.dead), (5, 3), "{handler}");
        }
        let letters = app.dead_letters().await.unwrap();
        let late = letters.iter().filter(|letter| letter.error == "timed out after 20ms");
        assert_eq!(late.count(), 1, "{letters:?}");
        assert!(app.health().problems.is_empty(), "{:?}", app.health());
    }
}

mod in_a_transaction {
    use super::*;

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    struct Trapped(Trap);

    #[handler(Trapped, in_process(in_transaction))]
    fn check(event: &Trapped) -> Result<(), Mute> {
        event.0.spring()
    }

    #[handler(Trapped, in_process(in_transaction))]
    async fn check_async(event: &Trapped) -> Result<(), Mute> {
        event.0.spring()
    }

    #[handler(Trapped, outbox(retries = 0))]
    async fn book(_event: &Trapped, tx: &mut Tx<Sqlite>) -> Result<(), evented::sqlx::Error> {
        evented::sqlx::query("insert into ledger values (1)").execute(&mut **tx).await.map(drop)
    }

    #[tokio::test]
    async fn a_failure_undoes_its_emit_alone_and_the_transaction_goes_on() {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        let app = run!(place, seen).outbox(pool.clone()).await.unwrap();
        let mut tx = evented::begin(&pool).await.unwrap();
        let expected = [
            ("panic", Some(ErrorKind::Handler)),
            ("error", Some(ErrorKind::Handler)),
            ("serialize", Some(ErrorKind::Unstorable)),
            ("drop", None),
            ("calm", None),
        ];
        for (how, kind) in expected {
            let ended = app.emit_in(&mut tx, Trapped(Trap::new(how))).await;
            assert_eq!(ended.as_ref().err().map(evented::Error::kind), kind, "{how}");
            // The caller's own error: what its drop does is the caller's.
            std::mem::forget(ended);
        }
        tx.commit().await.unwrap();
        app.until_idle().await.unwrap();
        let booked: i64 = query_scalar("select count(*) from ledger").fetch_one(&pool).await.unwrap();
        assert_eq!(booked, 2);
    }
}

mod around {
    use super::*;

    struct Stateful(#[expect(dead_code, reason = "it is there to be dropped")] Bomb);

    /// Panics for all that tracing asks of it, but once.
    #[derive(Default)]
    struct Untraceable(AtomicBool);

    impl evented::Traces for Untraceable {
        fn current(&self) -> Option<String> {
            if self.0.swap(true, Ordering::Relaxed) {
                panic_any(Bomb(2));
            }
            Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned())
        }
        fn link(&self, _: &tracing::Span, _: &str) {
            panic_any(Bomb(2));
        }
    }

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Around;

    #[handler(Around, background(retries = 0))]
    fn go(_event: Around, seen: State<Seen>, _state: State<Stateful>) {
        seen.note("went");
    }

    #[tokio::test]
    async fn a_state_that_panics_at_its_end_and_traces_that_panic_are_nobodys_failure() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).state(Stateful(Bomb(2))).traces(Untraceable::default()).await.unwrap();
        app.emit(Around).await.unwrap();
        app.emit(Around).await.unwrap();
        app.until_idle().await.unwrap();
        assert_eq!(count_of(&app, "Around/go").await.done, 2);
        app.stop().await;
        drop(app);
        assert_eq!(seen.all(), ["went", "went"]);
    }
}
