//! Beside a process of the first layout, whose scripts stand in `layout_1` as they were.

use std::time::Duration;

use evented::store::{Letters, Outcome, Push, Pushed};
use evented_tests::servers::Redis;

use super::{claim, completed, count, delivery, exchange, open, push, record, settle};

/// Each argument may be bytes that are no text: `x` and their digits.
pub(super) const READ_ARGUMENTS: &str = "for i = 1, #ARGV do \
     if string.sub(ARGV[i], 1, 1) == 'x' then ARGV[i] = string.gsub(string.sub(ARGV[i], 2), '%x%x', \
     function(hex) return string.char(tonumber(hex, 16)) end) end end ";

macro_rules! layout_1 {
    ($redis:expr, $script:literal, $($arg:expr),* $(,)?) => {{
        let code = concat!(include_str!("layout_1/prelude.lua"), include_str!(concat!("layout_1/", $script, ".lua")));
        let code = format!("{READ_ARGUMENTS}\n{code}");
        $redis.ask(&["EVAL", &code, "1", "{evented}:layout", $($arg),*])
    }};
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn id(key: &str) -> String {
    hex(&delivery("mail", key).id.to_bytes())
}

/// A delivery as the release before packed it, all with one order key.
fn body(key: &str) -> String {
    let mut body = vec![128];
    body.extend([7; 16]);
    body.extend(delivery("mail", key).event_id.to_bytes());
    body.extend(3_u32.to_be_bytes());
    body.extend(1_000_u64.to_be_bytes());
    body.extend(1_000_u64.to_be_bytes());
    body.extend(key.as_bytes());
    hex(&body)
}

/// The lease that it took: its token, with the numbers of the handler and of the version.
fn lease(token: &str) -> String {
    hex(&[token.as_bytes(), &1_u32.to_be_bytes(), &1_u32.to_be_bytes()].concat())
}

const ENTRY: &str = r#"{"event":"OrderPlaced","route":"background","queue":"default","aliases":[],"event_aliases":[],
    "attempts_max":3,"backoff_first_ms":1000,"backoff_max_ms":null,"timeout_ms":1000,"unique":null,"ordered_by":null}"#;

/// All that the server has.
fn content(redis: &Redis) -> String {
    let script = "local keys, all = redis.call('KEYS', '*'), {} table.sort(keys) \
        for i, key in ipairs(keys) do all[i] = key .. ' ' .. redis.sha1hex(redis.call('DUMP', key)) end return all";
    redis.ask(&["EVAL", script, "0"]).unwrap()
}

/// A store with one that runs, one that died, one that waits, and a retired handler.
fn lay_out(redis: &Redis) {
    assert_eq!(layout_1!(redis, "open", "1", "1").unwrap(), "1\n1");
    let recorded = layout_1!(redis, "record", "", "1", "1", "0", "all", "2", "mail", ENTRY, "stock", ENTRY, "0");
    assert_eq!(recorded.unwrap(), "1");
    assert_eq!(layout_1!(redis, "retire", "", "stock").unwrap(), "1");
    assert_eq!(push_old(redis, &generation(redis, "layout"), &["dies", "runs", "waits"]).unwrap(), "s");
    claim_old(redis, "the dead").unwrap();
    let dies = layout_1!(
        redis,
        "exchange",
        "",
        "0",
        "x",
        "0",
        "0",
        "1",
        "dead",
        &lease("the dead"),
        &id("dies"),
        "3",
        "no such address",
        "0"
    );
    assert!(dies.unwrap().starts_with('1'));
    claim_old(redis, "the runs").unwrap();
}

fn generation(redis: &Redis, key: &str) -> String {
    redis.ask(&["HGET", &format!("{{evented}}:{key}"), "generation"]).unwrap()
}

fn push_old(redis: &Redis, generation: &str, keys: &[&str]) -> Result<String, String> {
    let count = keys.len().to_string();
    let mut words = vec!["", "1", "mail", "1", "1", generation, "1", &count];
    let deliveries: Vec<_> = keys.iter().map(|key| (id(key), body(key))).collect();
    for (id, body) in &deliveries {
        words.extend(["1", id, "", body]);
    }
    let code = concat!(include_str!("layout_1/prelude.lua"), include_str!("layout_1/push.lua"));
    let code = format!("{READ_ARGUMENTS}\n{code}");
    redis.ask(&[&["EVAL", &code, "1", "{evented}:layout"], &words[..]].concat())
}

fn claim_old(redis: &Redis, token: &str) -> Result<String, String> {
    let minute = "60000000";
    layout_1!(redis, "exchange", "", "0", token, minute, "0", "0", "1", "default", "10", "1", "mail", "1", "1", "10")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_the_first_layout_is_gone_on_with() {
    let Some(redis) = Redis::start(&[]) else { return };
    lay_out(&redis);
    let before = generation(&redis, "layout");
    let (store, other) = (open(&redis.url()).await, open(&redis.url()).await);
    assert_eq!(redis.ask(&["HMGET", "{evented}:store", "version", "min_compatible"]).unwrap(), "3\n2");
    assert_eq!(store.about.identity(), other.about.identity());
    let catalogue = store.catalogue.read().await.unwrap();
    assert_eq!((catalogue.generation.to_string(), catalogue.handlers.len(), catalogue.retired.len()), (before, 1, 1));
    // Each is stored once, as it was: also the one that died, and the one whose worker goes on to hold it.
    let again = Push::of(catalogue.generation, ["dies", "runs", "waits"].map(|key| delivery("mail", key))).once();
    let known = again.deliveries.iter().map(|delivery| delivery.id).collect();
    assert_eq!(store.queue.push(again).await.unwrap(), Pushed::Stored(known));
    let counted = count(&other, "mail").await;
    assert_eq!((counted.waiting, counted.running, counted.dead), (1, 1, 1));
    assert!(claim(&other, 10, "mail").await.is_empty(), "what waits does so for the one that runs");
    assert_eq!(crate::store::requeue(&store, Letters::Of("mail".to_owned())).await, 1);
    record(&store, &["book"]).await;
    push(&store, vec![delivery("book", "of book")]).await;
    assert_eq!(claim(&other, 10, "book").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_of_the_release_before_is_refused_whatever_it_asks() {
    let Some(redis) = Redis::start(&[]) else { return };
    lay_out(&redis);
    let old_generation = generation(&redis, "layout");
    let store = open(&redis.url()).await;
    record(&store, &["mail"]).await;
    store.catalogue.read().await.unwrap();
    push(&store, vec![delivery("mail", "due")]).await;
    let new_generation = generation(&redis, "store");
    let (running, dead, waiting) = (id("runs"), id("dies"), id("waits"));
    let held = lease("the runs");
    let before = content(&redis);
    let refused = |what: &str, answer: Result<String, String>| {
        let error = answer.expect_err(what);
        assert!(error.contains("WRONGTYPE"), "{what}: {error}");
        assert_eq!(content(&redis), before, "{what}");
    };
    for generation in [&old_generation, &new_generation] {
        assert_eq!(push_old(&redis, generation, &["new"]).unwrap(), "m", "it is to plan anew, and cannot");
        assert_eq!(content(&redis), before);
    }
    let completed_plainly = layout_1!(redis, "exchange", "", "0", "x", "0", "1", &held, "1", &running, "0", "0");
    refused("completed", completed_plainly);
    for kind in ["completed", "retry", "released", "dead"] {
        let settled = layout_1!(redis, "exchange", "", "0", "x", "0", "0", "1", kind, &held, &running, "1", "why", "0");
        refused(kind, settled);
    }
    refused("claim", claim_old(&redis, "tokens!!"));
    refused("extend", layout_1!(redis, "extend", "60000000", "1", &held, "1", &running));
    refused("alone", layout_1!(redis, "alone", &held, &running, "2"));
    for how in ["all", "absent"] {
        refused("record", layout_1!(redis, "record", "", "1", "1", "5", how, "1", "stock", ENTRY, "0"));
        refused("record", layout_1!(redis, "record", "", "1", "1", "5", how, "0", "1", "mail"));
    }
    refused("catalogue", layout_1!(redis, "catalogue",));
    refused("retire", layout_1!(redis, "retire", "", "mail"));
    for action in ["requeue", "discard"] {
        refused(action, layout_1!(redis, "letters", "", action, "one", &dead, "0", "10"));
        refused(action, layout_1!(redis, "letters", "", action, "of", "mail", "0", "10"));
    }
    refused("sweep", layout_1!(redis, "letters", "", "sweep", "old", "0", "0", "10"));
    assert_eq!(layout_1!(redis, "sweep", "604800000000", "10").unwrap(), "0");
    assert_eq!(content(&redis), before);
    // One that starts now reads what is said since ever: that it must be newer.
    assert_eq!(layout_1!(redis, "open", "1", "1").unwrap(), "3\n2");
    assert_eq!(content(&redis), before);

    // What it held comes back when its lease ends.
    let ended = "redis.call('ZADD', KEYS[1], 1, redis.call('ZRANGE', KEYS[1], 0, 0)[1]) return 1";
    redis.ask(&["EVAL", ended, "1", "{evented}:leased:1:1"]).unwrap();
    let claimed = claim(&store, 10, "mail").await;
    assert_eq!(hex(&claimed[0].lease.delivery.to_bytes()), running);
    let (_, claims) = exchange(&store, completed(&claimed), 10, "mail").await;
    assert_eq!(hex(&claims.deliveries[0].lease.delivery.to_bytes()), waiting);
    let again = Outcome::Retry { delay: Duration::ZERO, error: "again".to_owned() };
    assert!(settle(&store, claims.deliveries[0].lease, again).await);
}
