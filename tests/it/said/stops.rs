//! A stop that a handler asks for.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use evented::{App, ErrorKind, prelude::*};
use evented_tests::{Place, Seen, count_of, eventually};
use serde::{Deserialize, Serialize};

#[event]
#[derive(Serialize, Deserialize)]
struct Enough;

#[handler(Enough, background)]
async fn stop(_event: Enough, app: State<Arc<OnceLock<App>>>, seen: State<Seen>) {
    app.get().expect("it is started").stop().await;
    seen.note("told to stop");
}

#[tokio::test]
async fn a_stop_in_a_handler_begins_and_does_not_wait_for_that_handler() {
    let (place, seen) = (Place::new(), Seen::default());
    let own = Arc::new(OnceLock::new());
    let run = || run!(place, seen).state(Arc::clone(&own)).grace(Duration::from_mins(10));
    let app = run().await.unwrap();
    own.set(app.clone()).unwrap();
    app.emit(Enough).await.unwrap();
    eventually("the handler goes on", async || seen.count("told to stop") == 1).await;
    let stopped = tokio::time::timeout(Duration::from_secs(10), app.stop()).await;
    assert!(stopped.is_ok(), "the stop waits for the handler that called it");
    assert_eq!(app.emit(Enough).await.unwrap_err().kind(), ErrorKind::NotStarted);
    let after = run!(place, seen).state(Arc::clone(&own)).role(Role::Emit).await.unwrap();
    let count = count_of(&after, "Enough/stop").await;
    assert_eq!((count.done, count.waiting, count.running), (1, 0, 0), "what called the stop is settled");
}
