//! Attempts: failures, retries, dead letters, timeouts, and what goes wrong on the way to a handler.

use std::time::Duration;

use evented::{Count, prelude::*, sqlx::query_scalar};
use evented_tests::{Place, Seen, count_of, eventually, file, tamper};
use serde::{Deserialize, Serialize};

mod failures {
    use super::*;

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Try {
        how: String,
    }

    #[handler(Try, background(retries = 2, backoff(fixed = "1ms")))]
    async fn fail(event: Try, seen: State<Seen>, delivery: Delivery) -> anyhow::Result<()> {
        seen.note(format!("{} {} of {}", event.how, delivery.attempt(), delivery.attempt() + delivery.attempts_left()));
        match &*event.how {
            "once" if delivery.attempt() == 1 => anyhow::bail!("not yet"),
            "once" => Ok(()),
            "permanent" => Err(Permanent::new("no such mailbox").into()),
            "permanent inside" => Err(anyhow::Error::new(Permanent::new("deep")).context("while sending")),
            "later" => Err(RetryAfter::new(Duration::from_hours(1), "come back").into()),
            "panic" => panic!("this handler panics on purpose"),
            _ => Err(anyhow::anyhow!("socket closed").context("the mail was not sent")),
        }
    }

    /// The same through a boxed error, and with no failure of its own.
    #[handler(Try, background(retries = 2, backoff(fixed = "1ms")))]
    async fn neighbour(event: Try, seen: State<Seen>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        seen.note(format!("neighbour {}", event.how));
        if event.how == "permanent" { Err(Permanent::new("boxed").into()) } else { Ok(()) }
    }

    async fn after(how: &str) -> (Vec<String>, Vec<(String, u32, String)>, Count) {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).await.unwrap();
        app.emit(Try { how: how.to_owned() }).await.unwrap();
        app.until_idle().await.unwrap();
        let letters = app.dead_letters().await.unwrap().into_iter();
        let letters = letters.map(|letter| (letter.handler, letter.attempts, letter.error)).collect();
        (seen.all(), letters, count_of(&app, "Try/fail").await)
    }

    #[tokio::test]
    async fn a_failed_delivery_is_tried_again_alone_until_it_works() {
        let (seen, letters, count) = after("once").await;
        assert_eq!(seen.iter().filter(|seen| *seen == "neighbour once").count(), 1);
        assert!(seen.contains(&"once 1 of 3".to_owned()) && seen.contains(&"once 2 of 3".to_owned()), "{seen:?}");
        assert!(letters.is_empty());
        assert_eq!((count.done, count.retried, count.dead), (1, 1, 0));
    }

    #[tokio::test]
    async fn the_last_failed_attempt_goes_to_the_dead_letters_with_its_causes() {
        let (seen, letters, count) = after("always").await;
        assert_eq!(seen.iter().filter(|seen| seen.starts_with("always")).count(), 3);
        let error = "the mail was not sent: socket closed".to_owned();
        assert_eq!(letters, [("Try/fail".to_owned(), 3, error)]);
        assert_eq!((count.done, count.retried, count.dead), (0, 2, 1));
    }

    #[tokio::test]
    async fn a_permanent_error_goes_to_the_dead_letters_at_once_through_anyhow_and_through_a_box() {
        let (_, mut letters, count) = after("permanent").await;
        letters.sort();
        let letter =
            |handler: &str, error: &str| (format!("Try/{handler}"), 1, format!("not to be tried again: {error}"));
        assert_eq!(letters, [letter("fail", "no such mailbox"), letter("neighbour", "boxed")]);
        assert_eq!((count.retried, count.dead), (0, 1));
    }

    #[tokio::test]
    async fn a_permanent_error_is_found_below_a_context() {
        let (_, letters, _) = after("permanent inside").await;
        assert_eq!(letters, [("Try/fail".to_owned(), 1, "while sending: not to be tried again: deep".to_owned())]);
    }

    #[tokio::test]
    async fn a_panic_is_a_failed_attempt_and_the_worker_goes_on() {
        let (seen, letters, _) = after("panic").await;
        assert_eq!(seen.iter().filter(|seen| seen.starts_with("panic")).count(), 3);
        assert_eq!(letters, [("Try/fail".to_owned(), 3, "panicked: this handler panics on purpose".to_owned())]);
    }

    #[tokio::test]
    async fn retry_after_sets_the_delay_instead_of_the_backoff() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).await.unwrap();
        app.emit(Try { how: "later".to_owned() }).await.unwrap();
        eventually("the attempt is settled", async || count_of(&app, "Try/fail").await.retried == 1).await;
        let left: i64 =
            query_scalar("select due_at - cast(unixepoch('subsec') * 1000 as integer) from evented_deliveries")
                .fetch_one(&file(&place).await)
                .await
                .unwrap();
        assert!((3_500_000..=3_600_000).contains(&left), "{left}");
    }

    #[tokio::test]
    async fn a_payload_that_cannot_be_decoded_goes_to_the_dead_letters_and_blocks_nobody() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).role(Role::Emit).await.unwrap();
        for how in ["bad", "good"] {
            app.emit(Try { how: how.to_owned() }).await.unwrap();
        }
        app.stop().await;
        tamper(
            &place,
            "update evented_deliveries set payload = cast('{\"who\":1}' as blob) where payload like '%bad%'",
        )
        .await;

        let app = run!(place, seen).await.unwrap();
        app.until_idle().await.unwrap();
        assert_eq!(seen.count("neighbour good"), 1);
        assert_eq!(seen.count("neighbour bad"), 0);
        let letters = app.dead_letters().await.unwrap();
        let undecodable = letters.iter().filter(|letter| letter.error.contains("missing field `how`"));
        assert_eq!(undecodable.count(), 2, "{letters:?}");
        assert!(letters.iter().any(|letter| letter.payload == b"{\"who\":1}" && letter.attempts == 0));
    }
}

mod time_is_up {
    use super::*;

    struct Dropped(State<Seen>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.note("dropped");
        }
    }

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Slow;

    #[handler(Slow, background(retries = 0, timeout = "50ms"))]
    async fn forever(_event: Slow, seen: State<Seen>) {
        let _dropped = Dropped(seen);
        std::future::pending::<()>().await;
    }

    #[handler(Slow, background(retries = 0, timeout = "50ms"))]
    fn blocking(_event: Slow, seen: State<Seen>, delivery: Delivery) {
        while !delivery.is_cancelled() {
            std::thread::yield_now();
        }
        seen.note("saw that its time was over");
    }

    #[tokio::test]
    async fn a_future_is_dropped_and_a_blocking_function_can_see_it() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).await.unwrap();
        app.emit(Slow).await.unwrap();
        app.until_idle().await.unwrap();
        eventually("the blocking function returns", async || seen.all().len() == 2).await;
        assert_eq!((seen.count("dropped"), seen.count("saw that its time was over")), (1, 1));
        let letters = app.dead_letters().await.unwrap();
        assert!(
            letters.len() == 2 && letters.iter().all(|letter| letter.error == "timed out after 50ms"),
            "{letters:?}"
        );
    }
}

mod trouble {
    use super::*;

    struct Explosive;

    impl<'de> Deserialize<'de> for Explosive {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("this type cannot be read, on purpose");
        }
    }

    impl Serialize for Explosive {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str("boom")
        }
    }

    /// An error whose text cannot be had.
    #[derive(Debug)]
    struct Unspeakable;

    impl std::fmt::Display for Unspeakable {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("this error cannot be shown, on purpose");
        }
    }

    impl std::error::Error for Unspeakable {}

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Troubled {
        explosive: Option<Explosive>,
        forever: bool,
    }

    #[handler(Troubled, background(retries = 0))]
    async fn struggle(event: Troubled) -> Result<(), Unspeakable> {
        assert!(event.explosive.is_none());
        Err(Unspeakable)
    }

    #[handler(Troubled, background(retries = 1))]
    async fn later(event: Troubled) -> Result<(), RetryAfter> {
        if event.forever { Err(RetryAfter::new(Duration::MAX, "for ever")) } else { Ok(()) }
    }

    #[tokio::test]
    async fn a_panic_while_decoding_or_while_telling_an_error_costs_the_delivery_and_nothing_else() {
        let place = Place::new();
        let app = run!(place, Seen::default()).await.unwrap();
        app.emit_all((0..70).map(|_| Troubled { explosive: Some(Explosive), forever: false })).await.unwrap();
        app.emit(Troubled { explosive: None, forever: false }).await.unwrap();
        app.until_idle().await.unwrap();
        assert_eq!(count_of(&app, "Troubled/struggle").await.dead, 71);
        let letters = app.dead_letters().await.unwrap();
        assert!(letters.iter().any(|letter| letter.error.contains("its `Deserialize` panicked")), "{:?}", letters[0]);
        assert!(letters.iter().any(|letter| letter.error.contains("this error cannot be shown")), "{:?}", letters[0]);
    }

    #[tokio::test]
    async fn a_delay_beyond_all_measure_is_cut_and_harms_nobody() {
        let place = Place::new();
        let app = run!(place, Seen::default()).await.unwrap();
        app.emit(Troubled { explosive: None, forever: true }).await.unwrap();
        eventually("it was told to wait for ever", async || count_of(&app, "Troubled/later").await.retried == 1).await;
        app.emit(Troubled { explosive: None, forever: false }).after(Duration::MAX).await.unwrap();
        app.emit(Troubled { explosive: None, forever: false }).await.unwrap();
        eventually("the next one is done", async || count_of(&app, "Troubled/later").await.done == 1).await;
        assert_eq!(count_of(&app, "Troubled/later").await.waiting, 2);
    }

    #[tokio::test]
    async fn a_dead_letter_is_tried_again_when_a_person_says_so() {
        let place = Place::new();
        let app = run!(place, Seen::default()).await.unwrap();
        app.emit(Troubled { explosive: None, forever: false }).await.unwrap();
        app.until_idle().await.unwrap();
        let letter = app.dead_letters().await.unwrap().remove(0);
        assert_eq!((&*letter.handler, &*letter.event, letter.attempts), ("Troubled/struggle", "Troubled", 1));
        assert!(app.requeue(letter.id).await.unwrap());
        app.until_idle().await.unwrap();
        assert_eq!(count_of(&app, "Troubled/struggle").await.dead, 2, "it was tried, and died again");
        assert_eq!(app.dead_letters().await.unwrap().len(), 1);
        assert!(!app.requeue(evented::DeliveryId::from_bytes([7; 16])).await.unwrap());
    }
}
