//! The server: one node of a cluster, large backlogs, names, promises, layouts.

use std::time::Duration;

use evented::{
    Priority,
    store::{Letters, NewDelivery, Outcome, Push, Pushed, Retention, Store, open_outbox, open_queue},
};
use evented_tests::{eventually, servers::Redis};

use super::{
    KEEPER, LONG, claim, claim_of, completed, count, delivery, exchange, open, ordered, payloads, push, record, settle,
    shared, unique,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_cluster_takes_all_operations() {
    let Some(redis) = Redis::start(&[("cluster-enabled", "yes")]) else { return };
    let store = open(&format!("{}?prefix=shop", redis.url())).await;
    record(&store, &["mail"]).await;
    let generation = store.catalogue.read().await.unwrap().generation;
    let deliveries = [
        delivery("mail", "plain"),
        unique("mail", "unique", "a", LONG),
        unique("mail", "not stored", "a", LONG),
        ordered("mail", "first", "b"),
        ordered("mail", "second", "b"),
        NewDelivery { version: 2, ..delivery("mail", "newer") },
    ];
    let not_stored = deliveries[2].id;
    let push = Push::of(generation, deliveries).once();
    assert_eq!(store.queue.push(push).await.unwrap(), Pushed::Stored(vec![not_stored]));
    let claimed = claim(&store, 10, "mail").await;
    assert_eq!(payloads(&claimed), ["plain", "unique", "first"]);
    let leases: Vec<_> = claimed.iter().map(|claimed| claimed.lease).collect();
    assert_eq!(store.queue.extend(KEEPER, &leases, LONG).await.unwrap(), [true; 3]);
    let error = || "no such address".to_owned();
    assert!(settle(&store, leases[0], Outcome::Dead { failed: 1, error: error() }).await);
    assert!(settle(&store, leases[1], Outcome::Retry { delay: Duration::ZERO, error: error() }).await);
    assert!(settle(&store, leases[2], Outcome::Completed).await);
    assert_eq!(payloads(&claim(&store, 10, "mail").await), ["second", "unique"]);
    assert_eq!(crate::store::admin(&store).dead_letters(None, 10).await.unwrap().len(), 1);
    assert_eq!(crate::store::requeue(&store, Letters::Of("mail".to_owned())).await, 1);
    let finished = [claimed[0].lease.delivery].into();
    store.queue.push(Push { finished, ..Push::of(generation, []) }).await.unwrap();
    crate::store::admin(&store).pause("default".to_owned(), true).await.unwrap();
    crate::store::admin(&store).sweep(Retention { age: LONG, count: 10 }).await.unwrap();
    assert_eq!(count(&store, "mail").await.waiting, 2, "the one that was requeued, and the newer one");
    assert!(crate::store::retire(&store, "mail").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_thousand_that_wait_are_claimed_and_counted() {
    const ALL: usize = 200_000;
    const BATCH: usize = 5_000;
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    for part in 0..10 {
        let all = (0..ALL / 10).map(|number| delivery("mail", &format!("{part} {number}"))).collect();
        push(&store, all).await;
    }
    assert_eq!(count(&store, "mail").await.waiting, ALL as u64);
    let (mut settlements, mut done) = (Vec::new(), 0);
    loop {
        let asked = settlements.len();
        let (held, claims) = exchange(&store, settlements, BATCH, "mail").await;
        assert_eq!(held, vec![true; asked]);
        done += asked;
        if claims.deliveries.is_empty() {
            break;
        }
        assert_eq!(claims.deliveries.len(), BATCH);
        settlements = completed(&claims.deliveries);
        if done == ALL / 2 {
            let counted = count(&store, "mail").await;
            let half = (ALL / 2) as u64;
            assert_eq!((counted.waiting, counted.running, counted.done), (half - 5_000, 5_000, half));
        }
    }
    let counted = count(&store, "mail").await;
    assert_eq!((counted.waiting, counted.running, counted.done), (0, 0, ALL as u64));
    let left = redis.ask(&["KEYS", "*"]).unwrap();
    assert!(!left.contains("deliveries") && !left.contains(":held") && !left.contains("due:"), "{left}");
}

/// What one claim answers at the most, one delivery apart; the payloads below are far larger than what surrounds them.
const CLAIM_BYTES: usize = 8 << 20;

/// Stores payloads of these sizes, each filled with its place.
async fn push_sizes(store: &Store, sizes: &[usize], version: impl Fn(usize) -> u32) {
    for (place, size) in sizes.iter().enumerate() {
        let payload = vec![u8::try_from(place).unwrap(); *size].into();
        let version = version(place);
        push(store, vec![NewDelivery { payload, version, ..delivery("mail", &place.to_string()) }]).await;
    }
}

/// Claims all that is stored; answers the sizes that each claim had, and checks that all came, the oldest first.
async fn claim_sizes(store: &Store, sizes: &[usize]) -> Vec<Vec<usize>> {
    let (mut claims, mut all) = (Vec::new(), Vec::new());
    while all.len() < sizes.len() {
        let claim = claim_of(512, &[("mail", 2, Priority::Normal)]);
        let claimed = store.queue.exchange([].into(), Some(claim)).await.unwrap().claims;
        assert!(!claimed.deliveries.is_empty(), "one at least");
        let payloads = claimed.deliveries.into_iter().map(|claimed| claimed.payload);
        let payloads: Vec<_> = payloads.map(|payload| (usize::from(payload[0]), payload.len())).collect();
        all.extend(payloads.iter().copied());
        if all.len() < sizes.len() {
            assert_eq!(claimed.next_due, Some(Duration::ZERO), "more is due");
        }
        claims.push(payloads.into_iter().map(|(_, size)| size).collect());
    }
    assert_eq!(all, sizes.iter().copied().enumerate().collect::<Vec<_>>());
    claims
}

fn are_within_the_limit(claims: &[Vec<usize>]) {
    for claim in claims {
        let bytes: usize = claim.iter().sum();
        assert!(bytes <= CLAIM_BYTES || claim.len() == 1, "{bytes} bytes in {} deliveries", claim.len());
    }
}

#[tokio::test]
async fn a_claim_takes_no_more_bytes_than_its_limit_and_one_delivery_at_least() {
    let Some(url) = shared() else { return };
    let store = open(&url).await;
    record(&store, &["mail"]).await;
    let large = [256 * 1024; 80];
    push_sizes(&store, &large, |_| 1).await;
    let claims = claim_sizes(&store, &large).await;
    are_within_the_limit(&claims);
    let counts: Vec<_> = claims.iter().map(Vec::len).collect();
    assert_eq!(counts, [31, 31, 18], "as many as there is room for, with what surrounds them");
}

#[tokio::test]
async fn a_claim_of_many_sizes_takes_no_more_bytes_than_its_limit() {
    let Some(url) = shared() else { return };
    let store = open(&url).await;
    record(&store, &["mail"]).await;
    // Small ones are followed by large ones, and one is larger than what is claimed at once.
    let mut sizes = vec![10; 50];
    sizes.extend([3 << 20; 6]);
    sizes.extend([10, 10, 9 << 20, 10]);
    push_sizes(&store, &sizes, |_| 1).await;
    let claims = claim_sizes(&store, &sizes).await;
    are_within_the_limit(&claims);
    assert_eq!(claims.iter().map(Vec::len).collect::<Vec<_>>(), [52, 2, 4, 1, 1]);
}

#[tokio::test]
async fn a_claim_of_several_versions_and_of_ended_leases_takes_no_more_bytes_than_its_limit() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    let sizes = [1 << 20; 20];
    push_sizes(&store, &sizes, |place| 1 + u32::try_from(place % 2).unwrap()).await;
    are_within_the_limit(&claim_sizes(&store, &sizes).await);
    // All leases end, in the order in which they were given.
    for leased in redis.ask(&["KEYS", "{evented}:leased:*"]).unwrap().lines() {
        let script = "for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do \
                      redis.call('ZADD', KEYS[1], string.byte(redis.call('HGET', KEYS[2], id), -1), id) end";
        redis.ask(&["EVAL", script, "2", leased, "{evented}:deliveries"]).unwrap();
    }
    are_within_the_limit(&claim_sizes(&store, &sizes).await);
    assert!(claim(&store, 512, "mail").await.is_empty(), "each has a lease again");
}

#[tokio::test]
async fn a_script_that_the_server_forgot_is_sent_again() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    for number in 0..3 {
        redis.ask(&["SCRIPT", "FLUSH"]).unwrap();
        push(&store, vec![delivery("mail", &format!("order {number}"))]).await;
        redis.ask(&["SCRIPT", "FLUSH"]).unwrap();
        let claimed = claim(&store, 10, "mail").await;
        redis.ask(&["SCRIPT", "FLUSH"]).unwrap();
        assert_eq!(store.queue.extend(KEEPER, &[claimed[0].lease], LONG).await.unwrap(), [true]);
        redis.ask(&["SCRIPT", "FLUSH"]).unwrap();
        assert!(settle(&store, claimed[0].lease, Outcome::Completed).await);
    }
    assert_eq!(count(&store, "mail").await.done, 3);
}

#[tokio::test]
async fn stores_of_one_server_are_apart() {
    let Some(redis) = Redis::start(&[]) else { return };
    let urls = [redis.url(), format!("{}/0?prefix=shop", redis.url()), format!("{}/1?prefix=shop", redis.url())];
    for url in &urls {
        let store = open(url).await;
        assert!(store.catalogue.read().await.unwrap().handlers.is_empty(), "{url}");
        record(&store, &["mail"]).await;
        push(&store, vec![delivery("mail", url)]).await;
    }
    for url in &urls {
        assert_eq!(payloads(&claim(&open(url).await, 10, "mail").await), [url.as_str()]);
    }
    let port = redis.port();
    let store = open(&format!("redis://127.0.0.1:{port}/1?prefix=shop")).await;
    assert_eq!(store.about.name(), format!("redis:127.0.0.1:{port}/1{{shop}}"));
}

#[tokio::test]
async fn a_password_is_used_and_never_shown() {
    let Some(redis) = Redis::start(&[]) else { return };
    redis.ask(&["ACL", "SETUSER", "shop", "on", ">sesame", "~*", "&*", "+@all"]).unwrap();
    let port = redis.port();
    let store = open(&format!("redis://shop:sesame@127.0.0.1:{port}")).await;
    assert_eq!(store.about.name(), format!("redis:127.0.0.1:{port}/0{{evented}}"));
    for url in [format!("redis://shop:xyzzy@127.0.0.1:{port}"), format!("redis://shop:xyzzy@127.0.0.1:{port}?prefix=")]
    {
        let Err(refused) = open_queue(&url).await else { panic!("{url} was opened") };
        assert!(!refused.is_transient());
        assert!(!format!("{refused} {refused:?}").contains("xyzzy"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_user_who_may_do_little_can_keep_a_store() {
    let Some(redis) = Redis::start(&[]) else { return };
    // No CONFIG, no channels, no keys but the store's.
    redis
        .ask(&["ACL", "SETUSER", "shop", "on", ">sesame", "~{shop}:*", "resetchannels", "+@all", "-@dangerous"])
        .unwrap();
    let store = open(&format!("redis://shop:sesame@127.0.0.1:{}?prefix=shop", redis.port())).await;
    assert!(store.about.promise().contains("not known"), "{}", store.about.promise());
    record(&store, &["mail"]).await;
    push(&store, vec![delivery("mail", "order 17")]).await;
    assert_eq!(claim(&store, 10, "mail").await.len(), 1);
}

#[tokio::test]
async fn the_promise_says_what_the_servers_settings_are_worth() {
    let Some(redis) = Redis::start(&[("appendonly", "yes"), ("appendfsync", "always")]) else { return };
    let promise = async || open(&redis.url()).await.about.promise().to_owned();
    assert_eq!(promise().await, "appendfsync=always: survives a crash of the server and a power cut");
    redis.ask(&["CONFIG", "SET", "appendfsync", "everysec"]).unwrap();
    assert!(promise().await.contains("last two seconds"));
    redis.ask(&["CONFIG", "SET", "appendfsync", "no"]).unwrap();
    assert!(promise().await.starts_with("appendfsync=no"));
    redis.ask(&["CONFIG", "SET", "appendonly", "no"]).unwrap();
    assert!(promise().await.contains("everything since its last snapshot"));
    let Some(replica) = Redis::start(&[]) else { return };
    replica.ask(&["REPLICAOF", "127.0.0.1", &redis.port().to_string()]).unwrap();
    let has_replica = async || redis.ask(&["INFO", "replication"]).unwrap().contains("connected_slaves:1");
    eventually("the replica is connected", has_replica).await;
    assert!(promise().await.ends_with("a failover to a replica may lose what that had not received yet"));
    redis.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).unwrap();
    assert!(!promise().await.contains("evicts"), "without a limit nothing is evicted");
    redis.ask(&["CONFIG", "SET", "maxmemory", "100mb"]).unwrap();
    assert!(promise().await.ends_with("evicts deliveries when it is full (maxmemory-policy=allkeys-lru)"));
}

#[tokio::test]
async fn a_layout_that_needs_newer_code_is_refused() {
    let Some(redis) = Redis::start(&[]) else { return };
    open(&redis.url()).await;
    redis.ask(&["HSET", "{evented}:store", "version", "9", "min_compatible", "1"]).unwrap();
    open(&redis.url()).await;
    redis.ask(&["HSET", "{evented}:store", "version", "9", "min_compatible", "9"]).unwrap();
    let Err(refused) = open_queue(redis.url()).await else { panic!("it was opened") };
    assert!(
        refused.to_string().contains("is of layout 9")
            && refused.to_string().ends_with("update evented in this process")
    );
    assert!(!refused.is_transient());
}

#[tokio::test]
async fn an_url_that_cannot_be_kept_says_what_to_write() {
    for (url, says) in [
        ("redis://localhost?prefx=shop", "has a parameter that it does not know; it takes `prefix=..` alone"),
        ("redis://localhost?prefix={shop}", "write letters, digits and `_ . - :`"),
        ("redis://localhost/shop", "is not one of redis"),
        ("rediss://localhost", "asks for TLS, which is not built in"),
    ] {
        let Err(refused) = open_queue(url).await else { panic!("{url} was opened") };
        assert!(refused.to_string().contains(says), "{url}: {refused}");
        assert!(!refused.is_transient());
    }
    let Err(refused) = open_outbox("redis://localhost").await else { panic!("it was opened") };
    assert!(refused.to_string().contains("a queue and no outbox"), "{refused}");
}

#[tokio::test]
async fn several_processes_open_a_new_store_at_once() {
    let Some(url) = shared() else { return };
    let opening: Vec<_> = (0..8).map(|_| open_queue(&url)).collect();
    let mut stores = Vec::new();
    for opening in opening {
        stores.push(opening.await.unwrap());
    }
    for store in &stores {
        record(store, &["mail"]).await;
    }
    let claim = claim_of(1, &[("mail", 1, Priority::Normal)]);
    push(&stores[3], vec![delivery("mail", "order 17")]).await;
    assert_eq!(stores[7].queue.exchange([].into(), Some(claim)).await.unwrap().claims.deliveries.len(), 1);
}
