//! A whole evented on Redis: emits in one process, handlers in another.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use evented::{App, ErrorKind, Role, prelude::*};
use evented_tests::{Seen, eventually, servers::Redis};
use serde::{Deserialize, Serialize};

/// An app of a module's handlers alone, on the queue at `url`.
macro_rules! run {
    ($url:expr, $seen:expr) => {
        evented::run().install(false).module(module_path!()).queue($url).state($seen.clone())
    };
}

mod worked_off {
    use super::*;

    #[event]
    #[derive(Serialize, Deserialize)]
    struct PlacedElsewhere {
        order: u32,
    }

    #[handler(PlacedElsewhere, background)]
    async fn mail(event: PlacedElsewhere, seen: State<Seen>) {
        seen.note(event.order.to_string());
    }

    async fn emits_go_on(app: &App, seen: &Seen, order: u32) {
        app.emit(PlacedElsewhere { order }).await.unwrap();
        eventually("it is handled", async || seen.count(&order.to_string()) == 1).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_event_of_one_process_is_handled_in_another_at_once() {
        let Some(redis) = Redis::start(&[]) else { return };
        let seen = Seen::default();
        let worker = run!(redis.url(), seen).role(Role::Work).await.unwrap();
        let web = run!(redis.url(), seen).role(Role::Emit).await.unwrap();
        let mut took = Vec::new();
        for order in 0..21 {
            tokio::time::sleep(Duration::from_millis(30)).await;
            let began = Instant::now();
            web.emit(PlacedElsewhere { order }).await.unwrap();
            while seen.count(&order.to_string()) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                assert!(began.elapsed() < Duration::from_secs(20));
            }
            took.push(began.elapsed());
        }
        took.sort();
        assert!(took[10] < Duration::from_millis(20), "{took:?}");
        worker.stop().await;
        web.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn emits_and_workers_go_on_after_the_server_has_lost_its_data() {
        let Some(redis) = Redis::start(&[]) else { return };
        let seen = Seen::default();
        let worker = run!(redis.url(), seen).role(Role::Work).await.unwrap();
        // It links no handler.
        let web = evented::run().install(false).module("nowhere").queue(redis.url()).role(Role::Emit).await.unwrap();
        emits_go_on(&web, &seen, 1).await;
        redis.ask(&["FLUSHALL"]).unwrap();
        emits_go_on(&web, &seen, 2).await;
        redis.ask(&["FLUSHALL"]).unwrap();
        emits_go_on(&worker, &seen, 3).await;
        assert!(worker.health().is_ok());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_emit_on_a_full_server_is_not_stored() {
        let Some(redis) = Redis::start(&[("maxmemory-policy", "noeviction")]) else { return };
        let seen = Seen::default();
        let app = run!(redis.url(), seen).await.unwrap();
        emits_go_on(&app, &seen, 1).await;
        redis.ask(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
        let refused = app.emit(PlacedElsewhere { order: 2 }).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotStored, "{refused:?}");
        redis.ask(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
        emits_go_on(&app, &seen, 3).await;
        assert_eq!(seen.count("2"), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_worker_goes_on_when_its_server_was_restarted() {
        let Some(mut redis) = Redis::start(&[("appendonly", "yes"), ("appendfsync", "always")]) else { return };
        let seen = Seen::default();
        let app = run!(redis.url(), seen).await.unwrap();
        emits_go_on(&app, &seen, 1).await;
        redis.kill();
        assert!(app.emit(PlacedElsewhere { order: 2 }).await.is_err());
        redis.restart();
        emits_go_on(&app, &seen, 3).await;
        eventually("its health is green again", async || app.health().is_ok()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_process_that_idles_asks_at_most_once_a_second() {
        let Some(redis) = Redis::start(&[]) else { return };
        let seen = Seen::default();
        let app = run!(redis.url(), seen).await.unwrap();
        emits_go_on(&app, &seen, 1).await;
        // The first look around is over.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let calls = || {
            let stats = redis.ask(&["INFO", "commandstats"]).unwrap();
            let call = |line: &str| {
                let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
                Some((name.to_owned(), rest.split_once(',')?.0.parse::<u64>().ok()?))
            };
            let calls: HashMap<String, u64> = stats.lines().filter_map(call).collect();
            // Those within scripts are counted too, and are not asked for.
            let asked = ["evalsha", "eval", "ping", "hello", "subscribe", "config|get"];
            asked.iter().filter_map(|name| calls.get(*name)).sum::<u64>()
        };
        let before = calls();
        tokio::time::sleep(Duration::from_secs(6)).await;
        let asked = calls() - before;
        assert!(asked <= 6, "{asked} in 6 seconds");
        app.stop().await;
    }
}

mod renewed {
    use super::*;

    #[event]
    #[derive(Serialize, Deserialize)]
    struct RenewedOften;

    #[handler(RenewedOften, background)]
    fn takes_long(_event: RenewedOften, seen: State<Seen>) {
        seen.note("began");
        std::thread::sleep(Duration::from_millis(2_500));
        seen.note("ended");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_lease_is_renewed_over_the_network_while_its_handler_runs() {
        let Some(redis) = Redis::start(&[]) else { return };
        let seen = Seen::default();
        let first = run!(redis.url(), seen).lease(Duration::from_secs(1)).await.unwrap();
        let second = run!(redis.url(), seen).lease(Duration::from_secs(1)).await.unwrap();
        first.emit(RenewedOften).await.unwrap();
        first.until_idle().await.unwrap();
        assert_eq!(seen.all(), ["began", "ended"]);
        let counts = second.counts().await.unwrap();
        let count = counts.iter().find(|count| count.handler == "RenewedOften/takes_long").unwrap();
        assert_eq!((count.done, count.retried), (1, 0));
    }
}
