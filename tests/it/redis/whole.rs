//! Which store a server has, and a store that lost what evented presumes: it is made whole by who knows it.

use std::{collections::HashSet, fs, time::Duration};

use evented::{
    App, Role,
    prelude::*,
    store::{Push, Pushed, Record, StoreTime, Swap},
};
use evented_tests::{Seen, eventually, heard::heard, servers::Redis};
use serde::{Deserialize, Serialize};
use tokio::task::block_in_place;

use super::{claim, delivery, exchange, handler, open, payloads, push, record};

const STORE: &str = "{evented}:store";

fn said(place: &str) -> usize {
    let said = heard().text();
    said.lines().filter(|line| line.contains("redis has lost") && line.contains(place)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_store_keeps_the_name_that_a_running_process_knows_and_says_so_once() {
    let Some(redis) = Redis::start(&[]) else { return };
    let heard = heard();
    let (store, other) = (open(&redis.url()).await, open(&redis.url()).await);
    record(&store, &["mail"]).await;
    store.catalogue.read().await.unwrap();
    let (before, named) = (other.catalogue.read().await.unwrap(), store.about.identity());
    assert_eq!(said(&redis.port().to_string()), 0);
    for round in 1..=2 {
        redis.ask(&["FLUSHALL"]).unwrap();
        // Who claims finds it out, and whoever reads the catalogue; some do so at the same time.
        let claims = (0..4).map(|_| async { claim(&store, 10, "mail").await.len() });
        let reads = (0..4).map(|_| async { usize::from(store.catalogue.read().await.is_err()) });
        let (claimed, failed) = tokio::join!(join(claims), join(reads));
        assert_eq!((claimed, failed), (0, 0));
        let after = other.catalogue.read().await.unwrap();
        assert_eq!(
            (after.handlers.len(), store.about.identity() == named, other.about.identity() == named),
            (1, true, true)
        );
        assert_ne!(after.generation, before.generation);
        assert_eq!(said(&redis.port().to_string()), round, "{}", heard.text());
    }
}

async fn join(all: impl Iterator<Item = impl Future<Output = usize>>) -> usize {
    let mut sum = 0;
    let mut all: Vec<_> = all.map(Box::pin).collect();
    for one in &mut all {
        sum += one.await;
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_store_that_nobody_knows_is_a_new_one() {
    let Some(redis) = Redis::start(&[]) else { return };
    let first = open(&redis.url()).await;
    let (named, generation) = (first.about.identity(), first.catalogue.read().await.unwrap().generation);
    first.about.close();
    drop(first);
    redis.ask(&["FLUSHALL"]).unwrap();
    eventually("nobody listens any more", async || redis.ask(&["PUBSUB", "CHANNELS"]).unwrap().is_empty()).await;
    let second = open(&redis.url()).await;
    assert_ne!(second.about.identity(), named);
    assert_ne!(second.catalogue.read().await.unwrap().generation, generation);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_store_under_a_running_process_is_found_out_by_a_claim() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    let named = (store.about.identity(), store.catalogue.read().await.unwrap().generation);
    // Another one is put in its place.
    let another = ["HSET", STORE, "version", "2", "min_compatible", "2", "identity", "another", "generation", "17"];
    redis.ask(&["FLUSHALL"]).unwrap();
    redis.ask(&another).unwrap();
    let planned = Push::of(named.1, [delivery("mail", "order 17")]);
    assert_eq!(store.queue.push(planned).await.unwrap(), Pushed::CatalogueMoved);
    let claim = super::claim_of(1, &[("mail", 1, evented::Priority::Normal)]);
    assert_eq!(store.queue.exchange([].into(), Some(claim)).await.unwrap().generation, Some(17));
    assert_eq!(store.about.identity().as_str(), "another");
    assert!(
        store.catalogue.read().await.unwrap().handlers.is_empty(),
        "what was known of the first is not recorded in it"
    );
}

#[tokio::test]
async fn generations_are_told_apart_to_their_last_digit() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    let generation = 9_223_372_036_854_775_807_u64;
    redis.ask(&["HSET", STORE, "generation", &generation.to_string()]).unwrap();
    assert_eq!(store.catalogue.read().await.unwrap().generation, generation);
    let claim = super::claim_of(1, &[("mail", 1, evented::Priority::Normal)]);
    assert_eq!(store.queue.exchange([].into(), Some(claim)).await.unwrap().generation, Some(generation));
    let planned = |generation| Push::of(generation, [delivery("mail", "order 17")]);
    let record = |generation| Record { generation, began: StoreTime::MAX, handlers: [handler("stock")].into() };
    assert_eq!(store.queue.push(planned(generation - 1)).await.unwrap(), Pushed::CatalogueMoved);
    assert_eq!(store.catalogue.retire("mail".to_owned(), generation - 1).await.unwrap(), Swap::Moved);
    assert_eq!(store.catalogue.record(record(generation - 1)).await.unwrap(), Swap::Moved);
    assert_eq!(store.queue.push(planned(generation)).await.unwrap(), Pushed::Stored(Vec::new()));
    assert_eq!(store.catalogue.record(record(generation)).await.unwrap(), Swap::Done(()));
    // Random ones have all of their bits.
    let mut seen = HashSet::new();
    for number in 0..8 {
        super::record(&store, &[&format!("handler {number}")]).await;
        seen.insert(store.catalogue.read().await.unwrap().generation % 1_000);
    }
    assert!(seen.len() > 2 && seen.iter().any(|last| last % 2 == 1), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_survives_a_restart_and_a_copy_on_another_server_has_another() {
    let (Some(mut redis), Some(mut other)) = (Redis::start(&[]), Redis::start(&[])) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    let by_name = open(&redis.url().replace("127.0.0.1", "localhost")).await;
    assert_eq!(by_name.about.identity(), store.about.identity(), "reached by another name");
    assert_ne!(open(&format!("{}/1", redis.url())).await.about.identity(), store.about.identity());
    assert_ne!(open(&format!("{}?prefix=shop", redis.url())).await.about.identity(), store.about.identity());

    redis.ask(&["SAVE"]).unwrap();
    block_in_place(|| {
        other.kill();
        fs::copy(redis.folder().join("dump.rdb"), other.folder().join("dump.rdb")).unwrap();
        other.restart();
    });
    let copy = open(&other.url()).await;
    assert_eq!(copy.catalogue.read().await.unwrap().handlers.len(), 1, "it is a copy");
    assert_ne!(copy.about.identity(), store.about.identity());
    assert_eq!(open(&other.url()).await.about.identity(), copy.about.identity());

    block_in_place(|| redis.restart());
    let again = open(&redis.url()).await;
    assert_eq!(again.about.identity(), store.about.identity());
    drop((store, by_name, copy, other));
    assert_eq!(open(&redis.url()).await.about.identity(), again.about.identity());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_the_server_lost_is_never_given_to_another() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail", "stock"]).await;
    push(&store, vec![delivery("mail", "of mail"), delivery("stock", "of stock")]).await;
    store.catalogue.read().await.unwrap();
    redis.ask(&["DEL", "{evented}:lanes"]).unwrap();
    redis.ask(&["HDEL", STORE, "lanes"]).unwrap();
    // Another process comes first, and knows nothing of the numbers: what waits under them is lost with them.
    let other = open(&redis.url()).await;
    record(&other, &["book"]).await;
    push(&other, vec![delivery("book", "of book")]).await;
    let generation = store.catalogue.read().await.unwrap().generation;
    let pushed = Push::of(generation, [delivery("mail", "after")]);
    assert_eq!(store.queue.push(pushed).await.unwrap(), Pushed::Stored(Vec::new()));
    for (name, expected) in [("book", &["of book"][..]), ("stock", &[]), ("mail", &["after"])] {
        assert_eq!(payloads(&claim(&store, 10, name).await), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_are_given_back_by_the_next_claim_with_what_waits_under_them() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail", "stock"]).await;
    push(&store, vec![delivery("stock", "of stock")]).await;
    let generation = store.catalogue.read().await.unwrap().generation;
    redis.ask(&["DEL", "{evented}:lanes"]).unwrap();
    let planned = Push::of(generation, [delivery("mail", "of mail")]);
    assert_eq!(store.queue.push(planned).await.unwrap(), Pushed::CatalogueMoved, "whoever planned reads the catalogue");
    assert!(claim(&store, 10, "stock").await.is_empty());
    assert_eq!(payloads(&claim(&store, 10, "stock").await), ["of stock"]);
}

#[event]
#[derive(Serialize, Deserialize)]
struct Whistled {
    number: u32,
}

#[handler(Whistled, background)]
async fn hear(event: Whistled, seen: State<Seen>) {
    seen.note(event.number.to_string());
}

async fn goes_on(app: &App, seen: &Seen, number: u32) {
    eventually("it is emitted", async || app.emit(Whistled { number }).await.is_ok()).await;
    eventually("it is handled", async || seen.count(&number.to_string()) > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_goes_on_whichever_key_is_deleted() {
    let Some(redis) = Redis::start(&[]) else { return };
    let seen = Seen::default();
    let run = || evented::run().install(false).module(module_path!()).queue(redis.url()).state(seen.clone());
    let app = run().await.unwrap();
    goes_on(&app, &seen, 0).await;
    let keys = redis.ask(&["KEYS", "*"]).unwrap();
    assert!(keys.lines().count() >= 4, "{keys}");
    for (number, key) in (1..).zip(keys.lines()) {
        redis.ask(&["DEL", key]).unwrap();
        goes_on(&app, &seen, number).await;
        let other = run().role(Role::Emit).await.unwrap_or_else(|error| panic!("without {key}: {error:?}"));
        goes_on(&other, &seen, number + 100).await;
        other.stop().await;
    }
    assert!(app.health().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_starts_on_an_emptied_store_lets_those_that_run_name_it() {
    let Some(redis) = Redis::start(&[]) else { return };
    let seen = Seen::default();
    let run = || evented::run().install(false).module(module_path!()).queue(redis.url()).state(seen.clone());
    for role in [Role::Work, Role::Emit] {
        let app = run().role(role).await.unwrap();
        let named = open(&redis.url()).await.about.identity();
        eventually("it listens", async || {
            redis.ask(&["PUBSUB", "NUMSUB", "{evented}:changes"]).unwrap().ends_with('1')
        })
        .await;
        redis.ask(&["FLUSHALL"]).unwrap();
        assert_eq!(open(&redis.url()).await.about.identity(), named, "{role:?}");
        app.stop().await;
        redis.ask(&["FLUSHALL"]).unwrap();
    }
}

#[tokio::test]
async fn letters_of_one_exchange_died_before_the_clock_that_is_read_after_it() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    for round in 0..5 {
        push(&store, (0..400).map(|number| delivery("mail", &format!("{round} {number}"))).collect()).await;
        let claimed = claim(&store, 400, "mail").await;
        let dead = |lease| evented::store::Settlement {
            lease,
            outcome: evented::store::Outcome::Dead { failed: 1, error: "no such address".to_owned() },
        };
        let dead: Vec<_> = claimed.iter().map(|claimed| dead(claimed.lease)).collect();
        let (held, _) = exchange(&store, dead, 1, "mail").await;
        assert_eq!(held, vec![true; 400]);
        let clock = store.queue.clock().await.unwrap();
        let letters = crate::store::admin(&store).dead_letters(None, 1_000).await.unwrap();
        let last = letters.iter().map(|letter| letter.died_at).max().unwrap();
        assert!(last.duration_since(std::time::UNIX_EPOCH).unwrap() <= Duration::from_millis(clock.0.cast_unsigned()));
        let of_mail = evented::store::Letters::Of("mail".to_owned());
        let mut discarded = 0;
        while {
            let step = crate::store::admin(&store).discard(of_mail.clone(), clock).await.unwrap();
            discarded += step.count;
            step.more
        } {}
        assert_eq!(discarded, 400);
    }
}
