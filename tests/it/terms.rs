//! The terms of handlers: priority, concurrency, unique and ordered deliveries, chosen queues, from the attribute to the run.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use evented::prelude::*;
use evented_tests::{Place, Seen, count_of, eventually};
use serde::{Deserialize, Serialize};

mod priority {
    use super::*;

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Asked;

    #[handler(Asked, background(priority = "low"))]
    async fn last(_event: Asked, seen: State<Seen>) {
        seen.note("low");
    }

    #[handler(Asked, background)]
    async fn between(_event: Asked, seen: State<Seen>) {
        seen.note("normal");
    }

    #[handler(Asked, background(priority = "high"))]
    async fn first(_event: Asked, seen: State<Seen>) {
        seen.note("high");
    }

    #[tokio::test]
    async fn what_is_of_higher_priority_is_claimed_first() {
        let (place, seen) = (Place::new(), Seen::default());
        // Stored before anybody works, more than one claim takes before it knows how fast the handlers are.
        let emits = run!(place, seen).role(Role::Emit).await.unwrap();
        emits.emit_all((0..64).map(|_| Asked)).await.unwrap();
        emits.stop().await;
        let app = run!(place, seen).await.unwrap();
        app.until_idle().await.unwrap();
        let all = seen.all();
        assert_eq!(all.len(), 192);
        // The first claim takes 64, all of them high; what comes after is taken while those before it end.
        assert!(all[..64].iter().all(|what| what == "high"), "{all:?}");
        assert!(all[128..].iter().filter(|what| *what == "low").count() > 32, "low comes last: {all:?}");
    }
}

mod concurrency {
    use super::*;

    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Paged;

    #[handler(Paged, background(concurrency = 3))]
    async fn fetch(_event: Paged) {
        let running = RUNNING.fetch_add(1, Ordering::SeqCst) + 1;
        MOST.fetch_max(running, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(10)).await;
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }

    #[handler(Paged, background)]
    async fn beside(_event: Paged, seen: State<Seen>) {
        seen.note("beside");
    }

    #[tokio::test]
    async fn a_handler_runs_no_more_at_once_than_its_concurrency_and_holds_up_no_other() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).await.unwrap();
        app.emit_all((0..60).map(|_| Paged)).await.unwrap();
        eventually("the other handler is done", async || seen.count("beside") == 60).await;
        assert!(count_of(&app, "Paged/fetch").await.done < 60, "and the limited one is not");
        app.until_idle().await.unwrap();
        assert_eq!(MOST.load(Ordering::SeqCst), 3);
    }
}

mod unique {
    use super::*;

    #[event]
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct CartChanged {
        cart_id: Option<u64>,
        total: u64,
    }

    #[handler(CartChanged, background(unique(key = "cart_id", within = "1h")))]
    async fn remind(event: CartChanged, seen: State<Seen>) {
        seen.note(format!("remind {:?} of {}", event.cart_id, event.total));
    }

    #[handler(CartChanged, background(unique(key = "total", within = "1ms")))]
    async fn price(event: CartChanged, seen: State<Seen>) {
        seen.note(format!("price {}", event.total));
    }

    #[handler(CartChanged, background)]
    async fn each(_event: CartChanged, seen: State<Seen>) {
        seen.note("each");
    }

    #[tokio::test]
    async fn of_one_key_a_handler_gets_the_first_for_a_while_and_others_get_all() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).await.unwrap();
        for (cart_id, total) in [(Some(1), 10), (Some(1), 11), (Some(2), 10), (Some(1), 12)] {
            app.emit(CartChanged { cart_id, total }).await.unwrap();
            app.until_idle().await.unwrap();
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        assert_eq!(seen.count("each"), 4);
        let reminded: Vec<_> = seen.all().into_iter().filter(|what| what.starts_with("remind")).collect();
        assert_eq!(reminded, ["remind Some(1) of 10", "remind Some(2) of 10"]);
        assert_eq!(seen.count("price 10"), 2, "its time was over, and its keys are its own");
    }

    #[tokio::test]
    async fn without_a_value_nothing_is_unique() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).await.unwrap();
        app.emit_all((0..2).map(|total| CartChanged { cart_id: None, total })).await.unwrap();
        app.until_idle().await.unwrap();
        assert_eq!((seen.count("remind None of 0"), seen.count("remind None of 1")), (1, 1));
    }
}

mod ordered {
    use super::*;

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Moved {
        customer_id: u64,
        step: u64,
    }

    #[handler(Moved, background(ordered_by = "customer_id", retries = 5, backoff(fixed = "2ms")))]
    async fn follow(event: Moved, seen: State<Seen>, delivery: Delivery) -> anyhow::Result<()> {
        // Earlier steps fail more often, and later ones would overtake them.
        if u64::from(delivery.attempt()) <= 3_u64.saturating_sub(event.step) {
            anyhow::bail!("not yet");
        }
        seen.note(format!("{} {}", event.customer_id, event.step));
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn deliveries_of_one_key_run_in_the_order_of_their_emits_across_retries_and_workers() {
        const STEPS: u64 = 8;
        let (place, seen) = (Place::new(), Seen::default());
        let workers = [run!(place, seen).await.unwrap(), run!(place, seen).await.unwrap()];
        for step in 0..STEPS {
            let moved = (0..5).map(|customer_id| Moved { customer_id, step });
            workers[usize::try_from(step % 2).unwrap()].emit_all(moved).await.unwrap();
        }
        workers[0].until_idle().await.unwrap();
        for customer in 0..5 {
            let steps: Vec<_> =
                seen.all().into_iter().filter(|what| what.starts_with(&format!("{customer} "))).collect();
            assert_eq!(steps, (0..STEPS).map(|step| format!("{customer} {step}")).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn a_delayed_delivery_holds_its_key() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).await.unwrap();
        app.emit(Moved { customer_id: 1, step: 6 }).after(Duration::from_millis(200)).await.unwrap();
        app.emit(Moved { customer_id: 1, step: 7 }).await.unwrap();
        app.emit(Moved { customer_id: 2, step: 8 }).await.unwrap();
        app.until_idle().await.unwrap();
        assert_eq!(seen.all(), ["2 8", "1 6", "1 7"]);
    }
}

mod renamed {
    use super::*;

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Shipped {
        #[serde(rename = "no")]
        order_id: u64,
    }

    #[handler(Shipped, background(ordered_by = "order_id"))]
    async fn track(_event: Shipped) {}

    #[tokio::test]
    async fn a_key_that_is_in_no_payload_is_refused_at_the_start() {
        let (place, seen) = (Place::new(), Seen::default());
        let error = run!(place, seen).await.unwrap_err().to_string();
        assert!(error.contains("handler `Shipped/track` (tests/it/terms.rs:"), "{error}");
        assert!(error.contains("has the key `order_id`, but payloads of `Shipped` have the fields `no`"), "{error}");
    }
}

mod queues {
    use super::*;

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Billed;

    #[handler(Billed, background(queue = "mail"))]
    async fn mail(_event: Billed, seen: State<Seen>) {
        seen.note("mail");
    }

    #[handler(Billed, background(queue = "reports"))]
    async fn report(_event: Billed, seen: State<Seen>) {
        seen.note("report");
    }

    #[tokio::test]
    async fn a_worker_for_chosen_queues_leaves_the_others() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).queues(["mail"]).await.unwrap();
        app.emit_all((0..5).map(|_| Billed)).await.unwrap();
        eventually("the mail is sent", async || seen.count("mail") == 5).await;
        assert_eq!((seen.count("report"), count_of(&app, "Billed/report").await.waiting), (0, 5));
        app.stop().await;
        let app = run!(place, seen).queues(["reports"]).await.unwrap();
        app.until_idle().await.unwrap();
        assert_eq!(seen.count("report"), 5);
    }

    #[tokio::test]
    async fn a_queue_that_no_handler_is_in_is_refused() {
        let (place, seen) = (Place::new(), Seen::default());
        let error = run!(place, seen).queues(["mial"]).await.unwrap_err().to_string();
        assert!(error.contains("in the queue `mial`") && error.contains("`mail`, `reports`"), "{error}");
    }
}
