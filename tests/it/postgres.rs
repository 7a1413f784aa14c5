//! What only Postgres can be asked: several processes at once, a server that dies, a network that hangs.

mod counts;
mod inbox;
mod lost;
mod marks;
mod outbox;
mod rows;
mod schema;
mod sessions;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::AtomicUsize, atomic::Ordering},
    time::{Duration, Instant},
};

use evented::{
    EventId, Key, Policy, Priority, Route, SessionId, Written,
    sqlx::{Connection, PgConnection, query},
    store::{
        CatalogueEntry, Claim, ClaimHandler, ClaimQueue, Claimed, Claims, Lapsed, NewDelivery, Outcome, Push, Pushed,
        Settlement, Store, open_queue,
    },
};
use evented_tests::{DEADLINE, eventually, proxy::Proxy, servers::Postgres};
use tokio::{task::JoinSet, time::timeout};

const LEASE: Duration = Duration::from_mins(1);

fn handler(id: &str) -> CatalogueEntry {
    CatalogueEntry {
        handler: id.into(),
        aliases: Vec::new(),
        event: "OrderPlaced".to_owned(),
        event_aliases: Vec::new(),
        route: Route::Background,
        queue: "default".to_owned(),
        policy: Policy::DEFAULT,
        unique: None,
        ordered_by: None,
    }
}

fn delivery(key: &str) -> NewDelivery {
    let event_id = EventId::from_key(key);
    NewDelivery {
        id: evented::DeliveryId::derive(event_id, "mail"),
        event_id,
        handler: "mail".into(),
        origin: evented::Origin::of(event_id),
        version: 1,
        emitted_unix_ms: None,
        delay: Duration::ZERO,
        policy: Policy::DEFAULT,
        unique: None,
        order: None,
        payload: key.as_bytes().into(),
    }
}

async fn open(url: &str) -> Store {
    let store = open_queue(url).await.unwrap();
    crate::store::record(&store, [handler("mail")]).await;
    store
}

async fn push(store: &Store, delivery: NewDelivery) -> Result<Pushed, evented::StoreError> {
    let generation = store.catalogue.read().await?.generation;
    store.queue.push(Push::of(generation, [delivery])).await
}

fn claim(wanted: usize) -> Claim {
    let mail = ClaimHandler { name: "mail".into(), version: 1, priority: Priority::Normal, wanted };
    Claim {
        queues: vec![ClaimQueue { name: "default".into(), handlers: vec![mail], wanted }],
        lease: LEASE,
        session: SessionId::from_i64(1),
        lapsed: Lapsed::Take,
    }
}

async fn claim_from(store: &Store, wanted: usize) -> Result<Claims, evented::StoreError> {
    Ok(store.queue.exchange([].into(), Some(claim(wanted))).await?.claims)
}

async fn complete(store: &Store, claimed: &Claimed) -> bool {
    let settlement = Settlement { lease: claimed.lease, outcome: Outcome::Completed };
    store.queue.exchange([settlement].into(), None).await.unwrap().held == [true]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_at_once_on_an_empty_database_all_start() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let mut opening = JoinSet::new();
    for _ in 0..8 {
        let url = url.clone();
        opening.spawn(async move { open(&url).await.catalogue.read().await.unwrap() });
    }
    let found = opening.join_all().await;
    assert!(found.iter().all(|state| state.handlers == [handler("mail")]));
    let generation = found[0].generation;
    assert!(found.iter().all(|state| state.generation == generation), "one of them recorded the handler: {found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_finds_the_tables_right_waits_for_no_lock() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    open(&url).await;
    let mut other = PgConnection::connect(&url).await.unwrap();
    let mut tx = other.begin().await.unwrap();
    query("select pg_advisory_xact_lock(28559150664672612)").execute(&mut *tx).await.unwrap();
    query("lock table evented_schema in share row exclusive mode").execute(&mut *tx).await.unwrap();
    timeout(DEADLINE, open(&url)).await.expect("it starts while another migrates");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_a_newer_release_are_refused_only_when_they_say_so() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    open(&url).await;
    server.ask(&url, "update evented_schema set version = 1000, min_compatible = 1").unwrap();
    open(&url).await;
    server.ask(&url, "update evented_schema set min_compatible = 1000").unwrap();
    let Err(error) = open_queue(&url).await else { panic!("it is too new") };
    assert!(!error.is_transient(), "{error}");
    assert!(error.to_string().contains("update evented in this process"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_names_the_place_and_no_password() {
    let Some(server) = Postgres::shared() else { return };
    let url = format!("postgres://postgres:secret@127.0.0.1:{}/not_there", server.port());
    let Err(error) = open_queue(&url).await else { panic!("there is no such database") };
    assert!(!error.is_transient(), "{error}");
    let said = format!("{error} {error:?}");
    assert!(said.contains("/not_there") && !said.contains("secret"), "{said}");
    let Err(error) = open_queue("postgres://postgres:secret@localhost/shop?listen=maybe").await else { panic!() };
    assert!(error.to_string().contains("`on` or `off`") && !error.to_string().contains("secret"), "{error}");
    let store = open(&format!("{}?sslmode=disable", server.database())).await;
    assert!(
        store.about.name().starts_with(&format!("postgres:127.0.0.1:{}/test_", server.port())),
        "{}",
        store.about.name()
    );
    assert!(store.about.promise().starts_with("synchronous_commit=on"), "{}", store.about.promise());
}

/// Deliveries of few keys, pushed and worked off by several processes at once, some of them failing and some dying.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_delivery_of_an_order_key_is_stranded_or_overtaken() {
    const KEYS: usize = 5;
    const EACH: usize = 40;
    const PUSHERS: usize = 3;
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let stores = [open(&url).await, open(&url).await, open(&url).await];
    let generation = stores[0].catalogue.read().await.unwrap().generation;
    let mut tasks = JoinSet::new();
    for (pusher, store) in stores.iter().cloned().enumerate() {
        tasks.spawn(async move {
            for number in 0..EACH {
                // Several keys in one push, in an order of its own: whoever locks them must do so in one order.
                let deliveries = (0..KEYS).map(|at| (at * (pusher + 1) + number) % KEYS).map(|key| NewDelivery {
                    order: Some(Key::derive("mail", &key.to_string())),
                    payload: format!("{key} {pusher} {number}").into_bytes().into(),
                    ..delivery(&format!("{key} {pusher} {number}"))
                });
                let push = Push { once: number % 2 == 0, ..Push::of(generation, deliveries.collect::<Vec<_>>()) };
                assert_eq!(store.queue.push(push).await.unwrap(), Pushed::Stored(Vec::new()));
            }
        });
    }
    let done: Arc<Mutex<Vec<String>>> = Arc::default();
    let running: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let ended = Arc::new(AtomicUsize::new(0));
    for worker in 0..4 {
        let (store, done, running, ended) = (stores[worker % 3].clone(), done.clone(), running.clone(), ended.clone());
        tasks.spawn(async move {
            let mut settlements: Vec<Settlement> = Vec::new();
            let mut turn = 0_usize;
            while ended.load(Ordering::SeqCst) < KEYS * EACH * PUSHERS || !settlements.is_empty() {
                let exchanged =
                    store.queue.exchange(std::mem::take(&mut settlements).into(), Some(claim(3))).await.unwrap();
                assert!(exchanged.held.iter().all(|held| *held));
                for claimed in exchanged.claims.deliveries {
                    let said = String::from_utf8(claimed.payload.to_vec()).unwrap();
                    let key = said.split(' ').next().unwrap().to_owned();
                    assert_eq!(running.lock().unwrap().insert(key.clone(), worker), None, "two of {key} at once");
                    tokio::task::yield_now().await;
                    assert_eq!(running.lock().unwrap().remove(&key), Some(worker));
                    turn += 1;
                    let outcome = match turn % 5 {
                        1 => Outcome::Retry { delay: Duration::ZERO, error: "not yet".to_owned() },
                        2 => Outcome::Released,
                        3 => Outcome::Dead { failed: 1, error: "never".to_owned() },
                        _ => Outcome::Completed,
                    };
                    if matches!(outcome, Outcome::Dead { .. } | Outcome::Completed) {
                        done.lock().unwrap().push(said);
                        ended.fetch_add(1, Ordering::SeqCst);
                    }
                    settlements.push(Settlement { lease: claimed.lease, outcome });
                }
            }
        });
    }
    timeout(Duration::from_mins(1), tasks.join_all()).await.expect("all of it comes to an end: none is stranded");
    let done = done.lock().unwrap().clone();
    assert_eq!(done.len(), KEYS * EACH * PUSHERS);
    // What one process pushed of a key was done in that order.
    let mut last: HashMap<(&str, &str), usize> = HashMap::new();
    for said in &done {
        let parts: Vec<_> = said.split(' ').collect();
        let number: usize = parts[2].parse().unwrap();
        let before = last.insert((parts[0], parts[1]), number);
        assert_eq!(before.map_or(0, |before| before + 1), number, "{said} after {before:?}");
    }
    assert_eq!(server.ask(&url, "select count(*) from evented_order_keys").unwrap(), "0", "no key is left behind");
    let count = crate::store::admin(&stores[0]).stats().await.unwrap().handlers.remove(0);
    assert_eq!(count.done + count.dead, (KEYS * EACH * PUSHERS) as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_beside_the_end_of_the_last_of_its_key_is_not_stranded() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let (working, pushing) = (open(&url).await, open(&url).await);
    let generation = working.catalogue.read().await.unwrap().generation;
    let order = Some(Key::derive("mail", "17"));
    let push_next = async |round: usize| {
        // At a time of its own in each round, to meet each line of the other's transaction.
        tokio::time::sleep(Duration::from_micros((round as u64 % 40) * 100)).await;
        let deliveries = [NewDelivery { order, ..delivery(&round.to_string()) }];
        assert_eq!(pushing.queue.push(Push::of(generation, deliveries)).await.unwrap(), Pushed::Stored(Vec::new()));
    };
    push_next(0).await;
    for round in 1..=200 {
        let claimed = claim_from(&working, 10).await.unwrap().deliveries;
        assert_eq!(claimed.len(), 1, "in round {round}");
        let (ended, ()) = tokio::join!(complete(&working, &claimed[0]), push_next(round));
        assert!(ended);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unique_key_is_had_by_one_of_those_who_push_at_once() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let stores = [open(&url).await, open(&url).await];
    let generation = stores[0].catalogue.read().await.unwrap().generation;
    let key = Key::derive("mail", "17");
    let unique = Some(evented::store::UniqueKey { key, within: LEASE });
    let mut pushing = JoinSet::new();
    for number in 0..40 {
        let store = stores[number % 2].clone();
        let deliveries = [NewDelivery { unique, ..delivery(&number.to_string()) }];
        pushing.spawn(async move { store.queue.push(Push::of(generation, deliveries)).await.unwrap() });
    }
    pushing.join_all().await;
    let claimed = claim_from(&stores[0], 100).await.unwrap().deliveries;
    assert_eq!(claimed.len(), 1);
    // It stands for the others when it is done, too; its own push may be repeated.
    assert!(complete(&stores[0], &claimed[0]).await);
    push(&stores[1], NewDelivery { unique, ..delivery("later") }).await.unwrap();
    assert!(claim_from(&stores[0], 100).await.unwrap().deliveries.is_empty());
    let held =
        NewDelivery { unique, event_id: claimed[0].event_id, id: claimed[0].lease.delivery, ..delivery("again") };
    push(&stores[1], held).await.unwrap();
    assert_eq!(claim_from(&stores[0], 100).await.unwrap().deliveries.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_killed_and_started_again_is_found_by_the_next_try() {
    let Some(mut server) = Postgres::start(&[]) else { return };
    let url = server.url();
    let store = open(&url).await;
    let seen = store.queue.wait(0, Duration::ZERO).await;
    for number in 0..10 {
        push(&store, delivery(&number.to_string())).await.unwrap();
    }
    let claimed = claim_from(&store, 4).await.unwrap().deliveries;
    assert_eq!(claimed.len(), 4);
    assert!(complete(&store, &claimed[0]).await);
    let generation = store.catalogue.read().await.unwrap().generation;
    let push_away = || store.queue.push(Push::of(generation, [delivery("away")]));
    server.kill();
    // The first finds its connection broken, and cannot know when; the next ones find none.
    let error = push_away().await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    let error = push_away().await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(error.written(), Written::Nothing, "{error}");
    let error = claim_from(&store, 4).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    server.restart();
    // At the first try: nobody need fail for the sake of a connection that broke while it was not used.
    push(&store, delivery("when it is back")).await.unwrap();
    let found = claim_from(&store, 100).await.unwrap().deliveries;
    // The claims may be lost, since they do not wait for the disk; what was pushed and settled is not.
    assert!((7..=10).contains(&found.len()), "{}", found.len());
    assert!(found.iter().all(|found| found.lease.delivery != claimed[0].lease.delivery), "it was settled");
    assert_eq!(store.queue.extend(evented::SessionId::from_i64(2), &[found[0].lease], LEASE).await.unwrap(), [true]);
    // Others' changes are heard of again.
    let other = open(&url).await;
    eventually("the listener is back", async || {
        push(&other, delivery(&format!("{:?}", Instant::now()))).await.unwrap();
        store.queue.wait(seen, Duration::from_millis(200)).await != seen
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_leaves_the_write_unknown_and_repeatable() {
    let Some(server) = Postgres::shared() else { return };
    let mut proxy = Proxy::start(format!("127.0.0.1:{}", server.port())).await;
    let direct = server.database();
    let through = direct.replace(&server.port().to_string(), &proxy.address().port().to_string());
    let store = open(&through).await;
    push(&store, delivery("before")).await.unwrap();
    let generation = store.catalogue.read().await.unwrap().generation;
    proxy.hang().await;
    let began = Instant::now();
    let deliveries: Arc<[_]> = [delivery("lost")].into();
    let hanging = Push::of(generation, deliveries).once();
    let (pushed, claimed, extended) = tokio::join!(
        timeout(DEADLINE, store.queue.push(hanging.clone())),
        timeout(DEADLINE, claim_from(&store, 10)),
        timeout(DEADLINE, store.queue.extend(evented::SessionId::from_i64(2), &[], LEASE)),
    );
    let error = pushed.expect("a half-open connection hangs nobody").unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(error.written(), Written::Unknown, "{error}");
    assert!(claimed.expect("nor a claim").unwrap_err().is_transient());
    assert!(extended.expect("nor a renewal").unwrap_err().is_transient());
    assert!(began.elapsed() < Duration::from_secs(15));
    proxy.mend().await;
    assert!(store.queue.push(hanging).await.unwrap().is_stored());
    let found = claim_from(&store, 10).await.unwrap().deliveries;
    assert_eq!(found.len(), 2, "each is stored once");
    // A connection that was reset while nobody used it costs nobody an error.
    proxy.cut().await;
    proxy.mend().await;
    assert!(complete(&store, &found[0]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_of_another_process_is_woken_at_once() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let (waiting, pushing) = (open(&url).await, open(&url).await);
    let mut took = Vec::new();
    for number in 0..10 {
        // Quiet, and listening.
        let mut seen = waiting.queue.wait(0, Duration::ZERO).await;
        loop {
            let mark = waiting.queue.wait(seen, Duration::from_millis(200)).await;
            if mark == seen {
                break;
            }
            seen = mark;
        }
        push(&pushing, delivery(&number.to_string())).await.unwrap();
        let began = Instant::now();
        let mark = waiting.queue.wait(seen, DEADLINE).await;
        assert_ne!(mark, seen);
        took.push(began.elapsed());
    }
    took.sort();
    // The middle one: the machine may be busy with something else for a moment.
    assert!(took[5] < Duration::from_millis(50), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_pooler_changes_are_found_by_looking() {
    let Some(server) = Postgres::shared() else { return };
    let url = format!("{}?statement-cache-capacity=0&listen=off", server.database());
    let (store, other) = (open(&url).await, open(&url).await);
    let seen = store.queue.wait(0, Duration::ZERO).await;
    push(&other, delivery("order 17")).await.unwrap();
    let began = Instant::now();
    let claimed = timeout(DEADLINE, async {
        let mut seen = seen;
        loop {
            seen = store.queue.wait(seen, DEADLINE).await;
            let claimed = claim_from(&store, 10).await.unwrap().deliveries;
            if !claimed.is_empty() {
                return claimed;
            }
        }
    });
    let claimed = claimed.await.expect("the wait ends though nobody tells it");
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!(store.queue.extend(evented::SessionId::from_i64(2), &[claimed[0].lease], LEASE).await.unwrap(), [true]);
    assert!(complete(&store, &claimed[0]).await);
    // Looking grows seldom.
    let mut seen = store.queue.wait(0, Duration::ZERO).await;
    let mut looks = 0;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        let mark = store.queue.wait(seen, Duration::from_secs(4).saturating_sub(began.elapsed())).await;
        looks += usize::from(mark != seen);
        seen = mark;
    }
    assert!(looks <= 8, "{looks}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_waits_for_a_row_that_a_foreign_transaction_holds() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let store = open(&url).await;
    for number in 0..3 {
        push(&store, delivery(&number.to_string())).await.unwrap();
    }
    let leased = claim_from(&store, 1).await.unwrap().deliveries.remove(0).lease;
    let mut other = PgConnection::connect(&url).await.unwrap();
    let mut tx = other.begin().await.unwrap();
    query("select from evented_deliveries where seq <= 2 for update").execute(&mut *tx).await.unwrap();
    let quick = Duration::from_secs(5);
    let claimed = timeout(quick, claim_from(&store, 10)).await.expect("a claim waits for nobody").unwrap().deliveries;
    assert_eq!(claimed.iter().map(|claimed| &*claimed.payload).collect::<Vec<_>>(), [b"2"]);
    let held = timeout(quick, store.queue.extend(evented::SessionId::from_i64(2), &[leased, claimed[0].lease], LEASE))
        .await
        .expect("nor does a renewal");
    assert_eq!(held.unwrap(), [true, true], "nobody can take the lease while its row is held");
    tx.rollback().await.unwrap();
    assert_eq!(claim_from(&store, 10).await.unwrap().deliveries.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_finds_nothing_writes_nothing() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let store = open(&url).await;
    push(&store, NewDelivery { delay: LEASE, ..delivery("later") }).await.unwrap();
    claim_from(&store, 10).await.unwrap();
    let xid = || server.ask(&url, "select pg_snapshot_xmax(pg_current_snapshot())").unwrap();
    // Other tests write to the same server, so some of several tries are enough.
    let quiet = async || {
        let before = xid();
        for _ in 0..10 {
            assert!(claim_from(&store, 10).await.unwrap().next_due.is_some());
        }
        xid() == before
    };
    eventually("ten claims take no number of a transaction", quiet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_and_a_renewal_of_one_lease_at_once_both_hold() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let (store, keeper) = (open(&url).await, open(&url).await);
    for round in 0..100 {
        push(&store, delivery(&round.to_string())).await.unwrap();
        let claimed = claim_from(&store, 1).await.unwrap().deliveries.remove(0);
        let leases = [claimed.lease];
        let (settled, renewed) = tokio::join!(
            complete(&store, &claimed),
            keeper.queue.extend(evented::SessionId::from_i64(2), &leases, LEASE)
        );
        assert!(settled, "in round {round}");
        renewed.unwrap();
    }
    assert!(claim_from(&store, 1).await.unwrap().deliveries.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_are_added_up_by_a_sweep_and_stay_the_same() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let store = open(&url).await;
    for number in 0..5 {
        push(&store, delivery(&number.to_string())).await.unwrap();
        let claimed = claim_from(&store, 1).await.unwrap().deliveries.remove(0);
        assert!(complete(&store, &claimed).await);
    }
    let rows = || server.ask(&url, "select count(*) from evented_counts").unwrap();
    let done = async || crate::store::admin(&store).stats().await.unwrap().handlers[0].done;
    // A push, a claim and a settlement of each.
    assert_eq!((rows().as_str(), done().await), ("15", 5));
    let retention = evented::store::Retention { age: LEASE, count: 10 };
    crate::store::admin(&store).sweep(retention).await.unwrap();
    assert_eq!((rows().as_str(), done().await), ("0", 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_dead_letters_beyond_their_retention_are_swept() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let store = open(&url).await;
    for number in 0..5 {
        push(&store, delivery(&number.to_string())).await.unwrap();
        let claimed = claim_from(&store, 1).await.unwrap().deliveries.remove(0);
        let outcome = Outcome::Dead { failed: 1, error: "a zero byte: \0".to_owned() };
        let settlement = Settlement { lease: claimed.lease, outcome };
        assert_eq!(store.queue.exchange([settlement].into(), None).await.unwrap().held, [true]);
    }
    let swept = async |age, count| {
        crate::store::admin(&store).sweep(evented::store::Retention { age, count }).await.unwrap().dead_letters
    };
    assert_eq!(swept(LEASE, 5).await, 0);
    assert_eq!(swept(LEASE, 3).await, 2);
    let left = crate::store::admin(&store).dead_letters(None, 10).await.unwrap();
    assert_eq!(left.iter().map(|letter| &*letter.payload).collect::<Vec<_>>(), [b"4", b"3", b"2"]);
    server.ask(&url, "update evented_dead_letters set died_at = died_at - 120000 where payload = '2'").unwrap();
    assert_eq!(swept(LEASE, 10).await, 1);
    assert_eq!(crate::store::requeue(&store, evented::store::Letters::Of("mail".to_owned())).await, 2);
    assert_eq!(claim_from(&store, 10).await.unwrap().deliveries.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_row_is_found_by_its_index_though_the_table_was_empty_when_the_plans_were_made() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let store = open(&url).await;
    let generation = store.catalogue.read().await.unwrap().generation;
    let round = async |count: usize, name: &str| {
        let deliveries: Vec<_> = (0..count).map(|number| delivery(&format!("{name} {number}"))).collect();
        store.queue.push(Push::of(generation, deliveries)).await.unwrap();
        let claims = claim_from(&store, 100).await.unwrap().deliveries;
        let all = claims.iter().map(|claimed| Settlement { lease: claimed.lease, outcome: Outcome::Completed });
        let settlements: Arc<[_]> = all.collect();
        let began = Instant::now();
        assert!(store.queue.exchange(settlements, Some(claim(100))).await.unwrap().held.iter().all(|held| *held));
        began.elapsed()
    };
    // The planner is told that there is nothing, and plans.
    server.ask(&url, "vacuum analyze evented_deliveries").unwrap();
    for number in 0..8 {
        round(2, &number.to_string()).await;
    }
    let took = round(20_000, "many").await;
    assert!(took < Duration::from_secs(1), "{took:?} for a hundred of many");
    let scans = "select seq_scan from pg_stat_user_tables where relname = 'evented_deliveries'";
    let before = server.ask(&url, scans).unwrap();
    round(2, "more").await;
    assert_eq!(server.ask(&url, scans).unwrap(), before);
}

mod worker {
    use evented::prelude::*;
    use evented_tests::{Seen, count_of, servers::Postgres};
    use serde::{Deserialize, Serialize};

    use super::*;

    #[event]
    #[derive(Serialize, Deserialize)]
    struct ReportAsked {
        number: u32,
        slow: bool,
    }

    #[handler(ReportAsked, background(retries = 0))]
    async fn write(event: ReportAsked, seen: State<Seen>) {
        if event.slow {
            tokio::time::sleep(Duration::from_secs(7)).await;
        }
        seen.note(event.number.to_string());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_processes_share_the_work_and_keep_the_leases_of_slow_handlers() {
        let Some(server) = Postgres::shared() else { return };
        let url = server.database();
        let seen = Seen::default();
        let process = || {
            let run = evented::run().install(false).module(module_path!()).queue(url.clone());
            run.state(seen.clone()).lease(Duration::from_secs(2))
        };
        let (one, other) = (process().await.unwrap(), process().await.unwrap());
        // Longer than three leases.
        one.emit(ReportAsked { number: 0, slow: true }).await.unwrap();
        for number in 1..200 {
            let app = if number % 2 == 0 { &one } else { &other };
            app.emit(ReportAsked { number, slow: false }).await.unwrap();
        }
        one.until_idle().await.unwrap();
        for number in 0..200 {
            assert_eq!(seen.count(&number.to_string()), 1, "{number} ran once");
        }
        let count = count_of(&other, "ReportAsked/write").await;
        assert_eq!((count.done, count.waiting, count.running, count.dead), (200, 0, 0, 0));
    }
}
