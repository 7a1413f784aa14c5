//! An error names the place, the act and what is left; a name that nobody knows is refused.

use evented::{ErrorKind, prelude::*};
use evented_tests::{Place, Seen, tamper};
use serde::{Deserialize, Serialize};

#[event]
#[derive(Serialize, Deserialize)]
struct Letter {
    number: u64,
}

#[handler(Letter, background(queue = "letters"))]
async fn answer(_event: Letter, seen: State<Seen>) {
    seen.note("answered");
}

#[tokio::test]
async fn an_error_names_the_store_what_was_asked_of_it_and_what_is_left() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run!(place, seen).role(Role::Emit).await.unwrap();
    app.emit(Letter { number: 1 }).await.unwrap();
    tamper(&place, "alter table evented_deliveries rename to hidden").await;
    let store = "in sqlite:";
    let emitted = app.emit(Letter { number: 2 }).await.unwrap_err();
    assert_eq!(emitted.kind(), ErrorKind::NotStored);
    let said = format!("{emitted:?}");
    assert!(emitted.to_string().contains(store) && said.contains("storing deliveries in sqlite:"), "{said}");
    assert!(said.contains("evented.db") && said.contains("was not stored"), "{said}");
    let counted = app.counts().await.unwrap_err();
    assert!(counted.to_string().starts_with("counting deliveries in sqlite:"), "{counted}");
    tamper(&place, "alter table hidden rename to evented_deliveries").await;
    tamper(&place, "alter table evented_queues rename to hidden").await;
    let paused = app.pause("letters").await.unwrap_err();
    assert!(paused.to_string().starts_with("pausing a queue in sqlite:"), "{paused}");
    assert!(paused.to_string().contains("failed, nothing was changed"), "{paused}");
}

#[tokio::test]
async fn a_name_that_no_store_knows_is_refused_with_the_nearest_known_one() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run!(place, seen).role(Role::Emit).await.unwrap();
    for error in [app.pause("leters").await.unwrap_err(), app.resume("letter").await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("did you mean `letters`?"), "{error}");
    }
    assert!(app.queues().await.unwrap().iter().all(|queue| !queue.paused && queue.queue == "letters"));
    for error in [
        app.dead_letters_of("Letter/anser").await.unwrap_err(),
        app.requeue_all("Leter/answer").await.unwrap_err(),
        app.discard_all("letter/answer").await.unwrap_err(),
        app.retire("Letter/answers").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("did you mean `Letter/answer`?"), "{error}");
    }
    let error = app.retire("a").await.unwrap_err();
    assert!(error.to_string().contains("known are `Letter/answer`"), "{error}");
}

#[tokio::test]
async fn a_queue_that_was_paused_is_resumed_after_its_last_handler_is_retired() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run!(place, seen).role(Role::Emit).await.unwrap();
    app.pause("letters").await.unwrap();
    app.retire("Letter/answer").await.unwrap();
    app.resume("letters").await.unwrap();
    assert!(app.queues().await.unwrap().iter().all(|queue| !queue.paused));
}

#[tokio::test]
async fn retiring_a_handler_says_how_many_of_its_deliveries_wait() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run!(place, seen).role(Role::Emit).await.unwrap();
    app.emit_all((0..90).map(|number| Letter { number })).await.unwrap();
    let retired = app.retire("Letter/answer").await.unwrap();
    assert_eq!((retired.was_there, retired.waiting), (true, 90));
    let again = app.retire("Letter/answer").await.unwrap();
    assert_eq!((again.was_there, again.waiting), (false, 90));
}
