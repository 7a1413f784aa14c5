//! Suspects beyond the contract: what a server may lose of them, what a person deletes, and what is left.

use std::time::Duration;

use evented::{
    Priority, SessionId,
    store::{Blame, Claim, Claimed, Claims, Outcome, Retention, Store, Suspected, Suspects},
};
use evented_tests::{eventually, servers::Redis};

use super::{
    KEEPER, LONG, claim, claim_of, completed, count, delivery, open, ordered, payloads, push, record, settle,
    trouble::delete_body,
};

/// A lease that ends within a test.
const SHORT: Duration = Duration::from_millis(50);
/// How old the session is that tries one.
const OLD: Duration = Duration::from_hours(1);

async fn claims_of(store: &Store, session: SessionId, lease: Duration) -> Claims {
    let claim = Claim { session, lease, ..claim_of(100, &[("mail", 1, Priority::Normal)]) };
    store.queue.exchange([].into(), Some(claim)).await.unwrap().claims
}

async fn suspects_of(store: &Store, session: SessionId, lease: Duration) -> Suspected {
    let queues = claim_of(100, &[("mail", 1, Priority::Normal)]).queues;
    store.queue.suspects(Suspects { queues, lease, session, exposed: 8, tried: Some(OLD) }).await.unwrap()
}

pub(super) async fn suspects(store: &Store) -> Suspected {
    suspects_of(store, KEEPER, LONG).await
}

/// A session that has what is due, and dies.
pub(super) async fn dies_with_all(store: &Store) -> Vec<Claimed> {
    let dead = SessionId::mint();
    store.queue.extend(dead, &[], SHORT).await.unwrap();
    let claimed = claims_of(store, dead, SHORT).await.deliveries;
    become_suspects(store).await;
    claimed
}

/// One that has the suspects.
async fn dies_with_suspects(store: &Store) -> Suspected {
    let dead = SessionId::mint();
    store.queue.extend(dead, &[], SHORT).await.unwrap();
    let suspected = suspects_of(store, dead, SHORT).await;
    become_suspects(store).await;
    suspected
}

async fn become_suspects(store: &Store) {
    eventually("what it had is under suspicion", async || claims_of(store, KEEPER, LONG).await.suspects).await;
    // All of its leases have ended.
    tokio::time::sleep(SHORT * 2).await;
}

fn blame(deaths: u32) -> Blame {
    Blame { deaths, charges: 0 }
}

async fn sweep(store: &Store) {
    crate::store::admin(store).sweep(Retention { age: LONG, count: 10 }).await.unwrap();
}

/// The keys that a store has of suspects.
fn left(redis: &Redis) -> Vec<String> {
    let keys = redis.ask(&["KEYS", "*"]).unwrap();
    let of_suspects = |key: &&str| ["suspects", "exposed:", "tried:", "died:"].iter().any(|kind| key.contains(kind));
    keys.lines().filter(of_suspects).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspects_without_their_bodies_are_dropped_and_their_order_key_goes_on() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    push(&store, vec![ordered("mail", "first", "a"), ordered("mail", "next", "a"), delivery("mail", "whole")]).await;
    assert_eq!(payloads(&dies_with_all(&store).await), ["first", "whole"]);
    delete_body(&redis, "first");
    let suspected = suspects(&store).await;
    assert_eq!((payloads(&suspected.exposed), suspected.more), (vec!["whole".to_owned()], false));
    eventually("the next of its key is due", async || payloads(&claim(&store, 10, "mail").await) == ["next"]).await;
    assert_eq!((count(&store, "mail").await.waiting, count(&store, "mail").await.running), (0, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspect_is_one_also_where_the_server_lost_what_is_held_against_it() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    push(&store, vec![delivery("mail", "order 17")]).await;
    dies_with_all(&store).await;
    redis.ask(&["DEL", "{evented}:suspects"]).unwrap();
    for _ in 0..2 {
        let exposed = suspects(&store).await.exposed;
        assert_eq!((payloads(&exposed), exposed[0].blame), (vec!["order 17".to_owned()], blame(1)));
        assert!(settle(&store, exposed[0].lease, Outcome::Released).await);
        assert!(claim(&store, 10, "mail").await.is_empty());
    }
    assert_eq!(dies_with_suspects(&store).await.exposed.len(), 1);
    redis.ask(&["DEL", "{evented}:suspects"]).unwrap();
    let tried = suspects(&store).await.tried.expect("nothing else is suspected");
    assert_eq!(tried.blame, blame(2));
    // While it runs: it is as good as any other.
    redis.ask(&["DEL", "{evented}:suspects"]).unwrap();
    assert!(settle(&store, tried.lease, Outcome::Released).await);
    assert_eq!(claim(&store, 10, "mail").await[0].blame, blame(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_has_died_of_a_session_that_the_server_lost() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    for lost in ["{evented}:sessions", "{evented}:held"] {
        push(&store, vec![delivery("mail", lost)]).await;
        let dead = SessionId::mint();
        store.queue.extend(dead, &[], SHORT).await.unwrap();
        let held = claims_of(&store, dead, SHORT).await.deliveries;
        redis.ask(&["DEL", lost]).unwrap();
        let mut again = Vec::new();
        eventually("it is due again", async || {
            again = claim(&store, 10, "mail").await;
            !again.is_empty()
        })
        .await;
        assert_eq!((payloads(&again), again[0].blame), (vec![lost.to_owned()], blame(0)));
        assert!(!settle(&store, held[0].lease, Outcome::Completed).await);
        assert!(settle(&store, again[0].lease, Outcome::Completed).await);
    }
    // One that lives goes on.
    redis.ask(&["DEL", "{evented}:sessions"]).unwrap();
    store.queue.extend(KEEPER, &[], LONG).await.unwrap();
    assert_eq!(redis.ask(&["ZCARD", "{evented}:sessions"]).unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_is_tried_though_the_server_lost_what_died_with_it() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    push(&store, vec![delivery("mail", "first")]).await;
    dies_with_all(&store).await;
    let dead = SessionId::mint();
    store.queue.extend(dead, &[], SHORT).await.unwrap();
    assert_eq!(suspects_of(&store, dead, SHORT).await.exposed.len(), 1);
    push(&store, vec![delivery("mail", "second")]).await;
    assert_eq!(claims_of(&store, dead, SHORT).await.deliveries.len(), 1);
    become_suspects(&store).await;
    // What it claimed last ends last.
    tokio::time::sleep(2 * SHORT).await;
    assert!(claims_of(&store, KEEPER, SHORT).await.deliveries.is_empty());
    let suspected = suspects_of(&store, KEEPER, SHORT).await;
    assert_eq!((suspected.exposed.len(), suspected.tried.is_some()), (1, false), "what died with it runs");
    assert!(settle(&store, suspected.exposed[0].lease, Outcome::Released).await);
    let lane = redis.ask(&["KEYS", "*exposed:*"]).unwrap();
    redis.ask(&["DEL", &lane]).unwrap();
    assert_eq!(suspects(&store).await.tried.expect("the other is gone").blame, blame(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_forgotten_two_days_after_their_end() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    let extend = async |session: i64| store.queue.extend(SessionId::from_i64(session), &[], LONG).await.unwrap();
    let known =
        || ["sessions", "session_leases"].map(|key| redis.ask(&["ZCARD", &format!("{{evented}}:{key}")]).unwrap());
    let pass = |time: Duration| {
        let script = "for _, key in ipairs(KEYS) do for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do \
                      redis.call('ZINCRBY', key, ARGV[1], id) end end";
        let micros = format!("-{}", time.as_micros());
        redis.ask(&["EVAL", script, "2", "{evented}:sessions", "{evented}:session_leases", &micros]).unwrap();
    };
    for session in 1..=150 {
        extend(session).await;
    }
    pass(Duration::from_hours(48));
    extend(151).await;
    assert_eq!(known(), ["151", "151"], "not yet");
    pass(LONG * 3);
    extend(151).await;
    assert_eq!(known(), ["151", "151"], "a renewal has no time for it");
    extend(152).await;
    assert_eq!(known(), ["52", "52"], "a new one makes room");
    sweep(&store).await;
    assert_eq!(known(), ["2", "2"]);
    store.queue.leave(SessionId::from_i64(151)).await.unwrap();
    assert_eq!(known(), ["1", "1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_leaves_a_suspect_that_holds_an_order_key() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    push(&store, vec![ordered("mail", "first", "a"), ordered("mail", "next", "a")]).await;
    dies_with_all(&store).await;
    for _ in 0..2 {
        sweep(&store).await;
        assert!(claim(&store, 10, "mail").await.is_empty());
        assert_eq!((count(&store, "mail").await.waiting, count(&store, "mail").await.running), (2, 0));
        let suspected = dies_with_suspects(&store).await;
        let first = suspected.exposed.into_iter().chain(suspected.tried).collect::<Vec<_>>();
        assert_eq!(payloads(&first), ["first"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_suspects_that_are_settled_or_deleted() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    push(&store, ["a", "b", "c", "d"].map(|key| delivery("mail", key)).to_vec()).await;
    dies_with_all(&store).await;
    let held = dies_with_suspects(&store).await.exposed;
    assert_eq!(payloads(&held), ["a", "b", "c", "d"]);
    assert!(!left(&redis).is_empty());
    let error = || "no such address".to_owned();
    let outcomes = [
        Outcome::Completed,
        Outcome::Retry { delay: LONG, error: error() },
        Outcome::Dead { failed: 0, error: error() },
    ];
    for outcome in outcomes {
        let tried = suspects(&store).await.tried.expect("one is tried");
        assert_eq!(tried.blame, blame(2));
        assert!(settle(&store, tried.lease, outcome).await);
    }
    let last = suspects(&store).await.tried.expect("one is tried");
    delete_body(&redis, "d");
    assert!(settle(&store, last.lease, Outcome::Released).await);
    sweep(&store).await;
    assert!(suspects(&store).await.tried.is_none());
    assert_eq!(left(&redis), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completed_suspects_are_forgotten_with_others_of_their_batch() {
    let Some(redis) = Redis::start(&[]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    let all = |numbers: std::ops::Range<u32>| numbers.map(|number| delivery("mail", &number.to_string())).collect();
    push(&store, all(0..100)).await;
    let dead = dies_with_all(&store).await;
    push(&store, all(100..250)).await;
    assert_eq!(dead.len(), 100);
    let mut seen = Vec::new();
    loop {
        let exposed = suspects(&store).await.exposed;
        if exposed.is_empty() {
            break;
        }
        seen.extend(payloads(&exposed));
        let mut settlements = completed(&exposed);
        settlements.extend(completed(&claim(&store, 20, "mail").await));
        let asked = settlements.len();
        let held = store.queue.exchange(settlements.into(), None).await.unwrap().held;
        assert_eq!(held, vec![true; asked]);
    }
    assert_eq!(seen, payloads(&dead), "in the order in which they were stored");
    assert_eq!(left(&redis), [""; 0]);
    assert_eq!(count(&store, "mail").await.done, 250);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_lets_suspects_be_worked_off() {
    let Some(redis) = Redis::start(&[("maxmemory-policy", "noeviction")]) else { return };
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    push(&store, vec![delivery("mail", "order 17"), delivery("mail", "order 18")]).await;
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    assert_eq!(dies_with_all(&store).await.len(), 2);
    let exposed = suspects(&store).await.exposed;
    assert!(settle(&store, exposed[0].lease, Outcome::Completed).await);
    assert!(settle(&store, exposed[1].lease, Outcome::Released).await);
    sweep(&store).await;
    let exposed = suspects(&store).await.exposed;
    assert_eq!((payloads(&exposed), exposed[0].blame), (vec!["order 18".to_owned()], blame(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_comes_back_wakes_those_who_wait() {
    let Some(redis) = Redis::start(&[]) else { return };
    let (store, other) = (open(&redis.url()).await, open(&redis.url()).await);
    record(&store, &["mail"]).await;
    push(&store, ["a", "b"].map(|key| delivery("mail", key)).to_vec()).await;
    let slept = SessionId::mint();
    store.queue.extend(slept, &[], SHORT).await.unwrap();
    assert_eq!(claims_of(&store, slept, SHORT).await.deliveries.len(), 2);
    become_suspects(&store).await;
    for waits in [&store, &other] {
        let mut mark = 0;
        eventually("it is quiet", async || {
            let seen = mark;
            mark = waits.queue.wait(seen, Duration::from_millis(300)).await;
            mark == seen
        })
        .await;
        let (_, woken) = tokio::join!(
            async {
                tokio::time::sleep(SHORT).await;
                store.queue.extend(slept, &[], SHORT).await.unwrap()
            },
            waits.queue.wait(mark, LONG)
        );
        assert_ne!(woken, mark);
        assert_eq!(payloads(&claims_of(&store, slept, SHORT).await.deliveries), ["a", "b"]);
        become_suspects(&store).await;
    }
}
