//! What a store in MySQL keeps of itself: its tables from release to release, its rows when somebody deletes them, and its
//! counters beside what they count.

use std::{collections::HashSet, sync::Arc, time::Duration};

use evented::{
    DeliveryId, EventId, Key, Origin, Policy, Priority, Role, SessionId,
    sqlx::{AssertSqlSafe, query, query_scalar},
    store::{
        CatalogueEntry, Claim, ClaimHandler, ClaimQueue, Claimed, Elsewhere, Exchanged, Fan, Fence, Lapsed, Letters,
        NewDelivery, OutboxRow, Outcome, Push, Pushed, PutBack, Record, Relay, Relayed, Retention, Route, Settlement,
        Store, StoreTime, Swap, open_outbox,
    },
};
use evented_tests::{Seen, eventually, servers::Mariadb};

use super::{Sailed, Shop, of_row};

pub(super) const LONG: Duration = Duration::from_mins(1);
const QUEUE: &str = "the queue";

pub(super) fn delivery(handler: &str, number: usize) -> NewDelivery {
    let event_id = EventId::from_key(&format!("event {number}"));
    NewDelivery {
        id: DeliveryId::derive(event_id, handler),
        event_id,
        handler: handler.into(),
        origin: Origin::of(event_id),
        version: 1,
        emitted_unix_ms: None,
        delay: Duration::ZERO,
        policy: Policy::DEFAULT,
        unique: None,
        order: None,
        payload: (*b"payload").into(),
    }
}

async fn generation(store: &Store) -> u64 {
    store.catalogue.read().await.unwrap().generation
}

pub(super) async fn record(store: &Store, handlers: &[&str]) {
    let entry = |handler: &&str| CatalogueEntry {
        handler: (*handler).into(),
        aliases: Vec::new(),
        event: "Sailed".to_owned(),
        event_aliases: Vec::new(),
        route: Route::Outbox,
        queue: "default".to_owned(),
        policy: Policy::DEFAULT,
        unique: None,
        ordered_by: None,
    };
    let record = Record {
        generation: generation(store).await,
        began: StoreTime::MAX,
        handlers: handlers.iter().map(entry).collect(),
    };
    assert_eq!(store.catalogue.record(record).await.unwrap(), Swap::Done(()));
}

pub(super) async fn push(store: &Store, deliveries: Vec<NewDelivery>) {
    let push = Push::of(generation(store).await, deliveries);
    assert!(store.queue.push(push).await.unwrap().is_stored());
}

async fn ask(store: &Store, handlers: &[&str], wanted: usize, lease: Duration) -> Exchanged {
    let handler = |name: &&str| ClaimHandler { name: (*name).into(), version: 1, priority: Priority::Normal, wanted };
    let handlers = handlers.iter().map(handler).collect();
    let claim = Claim {
        queues: vec![ClaimQueue { name: "default".into(), handlers, wanted }],
        lease,
        session: SessionId::from_i64(1),
        lapsed: Lapsed::Take,
    };
    store.queue.exchange([].into(), Some(claim)).await.unwrap()
}

pub(super) async fn claim(store: &Store, handlers: &[&str], wanted: usize, lease: Duration) -> Vec<Claimed> {
    ask(store, handlers, wanted, lease).await.claims.deliveries
}

async fn settle(store: &Store, claimed: &[Claimed], outcome: fn(usize) -> Outcome) {
    let settlements: Vec<_> = claimed
        .iter()
        .enumerate()
        .map(|(number, claimed)| Settlement { lease: claimed.lease, outcome: outcome(number) })
        .collect();
    store.queue.exchange(settlements.into(), None).await.unwrap();
}

/// Waiting and running, as it is told.
pub(super) async fn told(store: &Store, handler: &str) -> (u64, u64) {
    let stats = crate::store::admin(store).stats().await.unwrap();
    let count = stats.handlers.iter().find(|count| count.handler == handler).unwrap();
    (count.waiting, count.running)
}

fn turn_of(generation: u64, fan_out: fn(&OutboxRow) -> Fan) -> Relay {
    Relay {
        generation,
        rows: 500,
        bytes: usize::MAX,
        lease: LONG,
        target: Some(QUEUE.into()),
        elsewhere: Elsewhere::Lease,
        fan_out: Arc::new(fan_out),
        claim: None,
    }
}

pub(super) async fn turn(store: &Store, fan_out: fn(&OutboxRow) -> Fan) -> Relayed {
    crate::store::outbox(store).relay(turn_of(generation(store).await, fan_out)).await.unwrap()
}

pub(super) fn stays(row: &OutboxRow) -> Fan {
    Fan { here: vec![of_row(row, "book", None)], ..Fan::default() }
}

fn goes(row: &OutboxRow) -> Fan {
    Fan { elsewhere: vec![of_row(row, "mail", None)], ..Fan::default() }
}

/// All of one order key.
fn goes_in_order(row: &OutboxRow) -> Fan {
    Fan { elsewhere: vec![of_row(row, "mail", Some(Key::derive("mail", "customer 1")))], ..Fan::default() }
}

impl Shop {
    pub(super) async fn execute(&self, sql: &str) {
        query(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub(super) async fn ask(&self, sql: &str) -> i64 {
        query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.pool).await.unwrap()
    }

    /// Commits so many events.
    async fn emitted(&self, count: usize, payload_bytes: usize) {
        self.execute(&format!(
            "insert into evented_outbox (event_id, event, due_at, version, emitted_at, payload)
             select unhex(lpad(hex(seq + (select count(*) * 1000000 from ledger)), 32, '0')), 'Sailed',
                0, 1, 1000 * unix_timestamp(), repeat('x', {payload_bytes})
             from seq_1_to_{count}"
        ))
        .await;
        self.execute("insert into ledger values (0)").await;
    }

    async fn tables(&self) -> Vec<String> {
        let name = self.url.rsplit('/').next().unwrap();
        let sql =
            "select table_name from information_schema.tables where table_schema = ? and table_name like 'evented%'";
        query_scalar(sql).bind(name).fetch_all(&self.pool).await.unwrap()
    }

    /// What is told of a handler's deliveries is what a look at them says.
    async fn counters_are_right(&self, store: &Store, handler: &str) {
        let of = format!(
            "from evented_deliveries where handler = (select num from evented_handlers where id = '{handler}')"
        );
        let stored = self.ask(&format!("select count(*) {of}")).await;
        let leased = format!("select count(*) {of} and lease is not null and due_at > 1000 * unix_timestamp()");
        let running = self.ask(&leased).await;
        assert_eq!(
            told(store, handler).await,
            ((stored - running).cast_unsigned(), running.cast_unsigned()),
            "{handler}"
        );
    }
}

/// Emits until an event that was emitted from now on was handled.
async fn goes_on(shop: &Shop, app: &evented::App, seen: &Seen, what: &str) {
    let mut entry = i64::try_from(seen.all().len()).unwrap() * 1_000 + 1;
    let mut emitted = HashSet::new();
    eventually(&format!("an event is handled: {what}"), async || {
        entry += 1;
        let emitting = async {
            let mut tx = evented::begin(&shop.pool).await?;
            app.emit_in(&mut tx, Sailed { entry }).await?;
            tx.commit().await?;
            Ok::<(), evented::Error>(())
        };
        if emitting.await.is_ok() {
            emitted.insert(entry);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        emitted.iter().any(|entry| seen.count(&format!("moored {entry}")) > 0)
    })
    .await;
    eventually(&format!("it is well: {what}"), async || app.health().is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_goes_on_whichever_table_is_emptied_or_dropped() {
    let (Some(shop), seen) = (Shop::new().await, Seen::default()) else { return };
    let app = shop.run(&seen).await.unwrap();
    goes_on(&shop, &app, &seen, "nothing has happened").await;
    let store = open_outbox(&shop.url).await.unwrap();
    let identity = store.about.identity();
    let tables = shop.tables().await;
    assert!(tables.len() >= 12, "{tables:?}");
    for table in &tables {
        shop.execute(&format!("truncate {table}")).await;
        goes_on(&shop, &app, &seen, &format!("{table} is emptied")).await;
        shop.run(&seen).await.unwrap_or_else(|error| panic!("without {table}: {error:?}")).stop().await;
    }
    for table in &tables {
        shop.execute(&format!("truncate {table}")).await;
    }
    goes_on(&shop, &app, &seen, "all is emptied").await;
    for table in &tables {
        shop.execute(&format!("drop table {table}")).await;
    }
    goes_on(&shop, &app, &seen, "all is dropped").await;
    let other = open_outbox(&shop.url).await.unwrap();
    assert_eq!(other.about.identity(), identity, "it is the store that the running process knows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_emptied_says_so_to_whoever_asks_it() {
    let Some(shop) = Shop::new().await else { return };
    let store = open_outbox(&shop.url).await.unwrap();
    record(&store, &["book"]).await;
    let before = generation(&store).await;
    for ending in ["truncate", "drop table"] {
        let known = generation(&store).await;
        for table in shop.tables().await {
            shop.execute(&format!("{ending} {table}")).await;
        }
        assert_ne!(ask(&store, &["book"], 1, LONG).await.generation, Some(known));
        let pushed = store.queue.push(Push::of(known, [delivery("book", 1)])).await.unwrap();
        assert_eq!(pushed, Pushed::CatalogueMoved);
        crate::store::outbox(&store).tell(evented::store::Told::Committed);
        assert!(crate::store::outbox(&store).relay(turn_of(known, stays)).await.unwrap().catalogue_moved);
        let state = store.catalogue.read().await.unwrap();
        assert!(state.handlers.is_empty() && state.generation != before && state.generation != known);
        record(&store, &["book"]).await;
        push(&store, vec![delivery("book", 1)]).await;
        assert_eq!(claim(&store, &["book"], 5, LONG).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_dropped_and_restored_under_a_running_process_goes_on() {
    let (Some(shop), seen) = (Shop::new().await, Seen::default()) else { return };
    let app = shop.run(&seen).await.unwrap();
    goes_on(&shop, &app, &seen, "nothing has happened").await;
    let name = shop.url.rsplit('/').next().unwrap().to_owned();
    let server = Mariadb::shared().unwrap();
    tokio::task::block_in_place(|| {
        for sql in [format!("drop database {name}"), format!("create database {name}")] {
            server.client().ask("mysql", &sql).unwrap();
        }
    });
    // The application's own connections are without a database as well.
    let mut held = Vec::new();
    while let Some(conn) = shop.pool.try_acquire() {
        held.push(conn.detach());
    }
    drop(held);
    shop.execute(&format!("create table {name}.ledger (entry bigint not null)")).await;
    goes_on(&shop, &app, &seen, "it is a new one").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn counters_say_what_is_stored_after_a_random_workload() {
    let Some(shop) = Shop::new().await else { return };
    let stores = [open_outbox(&shop.url).await.unwrap(), open_outbox(&shop.url).await.unwrap()];
    record(&stores[0], &["book", "mail"]).await;
    let seed: u64 = EventId::new().to_bytes()[..8].iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
    println!("seed {seed}");
    let working = (0..4_u64).map(|worker| {
        let store = stores[usize::from(worker % 2 == 0)].clone();
        tokio::spawn(async move {
            let mut chance = seed.wrapping_add(worker) | 1;
            let mut dice = move |sides: u64| {
                chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (chance >> 33) % sides
            };
            for _ in 0..60 {
                let handler = if dice(2) == 0 { "book" } else { "mail" };
                match dice(5) {
                    // Of few events, so that many are there already.
                    0 | 1 => {
                        let some = (0..=dice(6)).map(|_| delivery(handler, usize::try_from(dice(40)).unwrap()));
                        push(&store, some.collect()).await;
                    }
                    2 => {
                        let lease = if dice(3) == 0 { Duration::from_millis(1) } else { LONG };
                        let claimed = claim(&store, &["book", "mail"], 8, lease).await;
                        settle(&store, &claimed, |number| match number % 5 {
                            0 => Outcome::Completed,
                            1 => Outcome::Retry { delay: Duration::ZERO, error: "away".to_owned() },
                            2 => Outcome::Dead { failed: 1, error: "no".to_owned() },
                            _ => Outcome::Released,
                        })
                        .await;
                    }
                    3 => drop(
                        claim(&store, &["book", "mail"], 3, if dice(2) == 0 { LONG } else { Duration::from_millis(1) })
                            .await,
                    ),
                    _ => drop(
                        crate::store::admin(&store)
                            .requeue(Letters::Of(handler.to_owned()), StoreTime::MAX)
                            .await
                            .unwrap(),
                    ),
                }
            }
        })
    });
    for worker in working.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    // Until the short leases have ended for sure.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    for handler in ["book", "mail"] {
        shop.counters_are_right(&stores[0], handler).await;
    }
    let rows = shop.ask("select count(*) from evented_counts").await;
    assert!(rows > 0, "they were not added up yet");
    // Added up, they say the same.
    sweep(&stores[0]).await;
    assert_eq!(shop.ask("select count(*) from evented_counts").await, 0);
    for handler in ["book", "mail"] {
        shop.counters_are_right(&stores[1], handler).await;
    }
    // What somebody deletes by hand is found out.
    shop.execute("delete from evented_deliveries limit 3").await;
    sweep(&stores[0]).await;
    for handler in ["book", "mail"] {
        shop.counters_are_right(&stores[1], handler).await;
    }
}

async fn sweep(store: &Store) -> u64 {
    let mut forgotten = 0;
    loop {
        let swept = crate::store::admin(store).sweep(Retention { age: LONG, count: 1_000_000 }).await.unwrap();
        forgotten += swept.forgotten_early;
        if !swept.more {
            return forgotten;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_are_added_up_by_their_number() {
    let Some(shop) = Shop::new().await else { return };
    let store = open_outbox(&shop.url).await.unwrap();
    record(&store, &["book"]).await;
    for number in 0..800 {
        push(&store, vec![delivery("book", number)]).await;
        let claimed = claim(&store, &["book"], 1, LONG).await;
        settle(&store, &claimed, |_| Outcome::Completed).await;
    }
    let rows = shop.ask("select count(*) from evented_counts").await;
    assert!(rows < 1_500, "{rows} rows of 2,400 are left");
    shop.counters_are_right(&store, "book").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marks_of_what_is_finished_go_with_later_pushes() {
    let Some(shop) = Shop::new().await else { return };
    let store = open_outbox(&shop.url).await.unwrap();
    record(&store, &["book"]).await;
    let once = async |numbers: std::ops::Range<usize>, finished: &[DeliveryId]| {
        let deliveries: Vec<_> = numbers.map(|number| delivery("book", number)).collect();
        let push = Push { finished: finished.into(), ..Push::of(generation(&store).await, deliveries).once() };
        assert_eq!(store.queue.push(push).await.unwrap(), Pushed::Stored(Vec::new()));
    };
    once(0..10, &[]).await;
    let finished: Vec<_> = (0..4).map(|number| delivery("book", number).id).collect();
    once(10..11, &finished).await;
    // Remembered for two minutes more.
    let left =
        |of: &str| format!("select count(*) from evented_once where at - (1000 * unix_timestamp() - 604800000) {of}");
    assert_eq!(shop.ask(&left("between 100000 and 125000")).await, 4);
    assert_eq!(shop.ask(&left("> 600000000")).await, 7);
    // Three minutes go by.
    shop.execute("update evented_once set at = at - 180000").await;
    once(11..12, &[delivery("book", 4).id]).await;
    assert_eq!(shop.ask("select count(*) from evented_once").await, 10, "two are deleted for one that is finished");
    once(0..0, &[delivery("book", 5).id]).await;
    assert_eq!(shop.ask("select count(*) from evented_once").await, 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_too_many_marks_the_oldest_are_forgotten() {
    let Some(shop) = Shop::new().await else { return };
    let store = open_outbox(&shop.url).await.unwrap();
    shop.execute(
        "insert into evented_once (id, push, at)
         select unhex(lpad(hex(seq), 32, '0')), 1, 1000 * unix_timestamp() + seq div 2 from seq_1_to_1002500",
    )
    .await;
    assert_eq!(sweep(&store).await, 2_500);
    assert_eq!(shop.ask("select count(*) from evented_once").await, 1_000_000);
    assert_eq!(shop.ask("select cast(conv(hex(min(id)), 16, 10) as signed) from evented_once").await, 2_501);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_wait_for_an_absent_queue_are_not_read() {
    let Some(server) = tokio::task::block_in_place(|| Mariadb::start(&[])) else { return };
    let shop = Shop::at(server.database()).await;
    let store = open_outbox(&shop.url).await.unwrap();
    record(&store, &["book", "mail"]).await;
    shop.emitted(5_000, 10).await;
    let leave = async || {
        let relay = Relay { elsewhere: Elsewhere::Leave(LONG), ..turn_of(generation(&store).await, goes_in_order) };
        crate::store::outbox(&store).relay(relay).await.unwrap()
    };
    while leave().await.put_off > 0 {}
    // Due again, and the queue is still away.
    shop.execute("update evented_outbox set due_at = 1").await;
    assert_eq!(shop.ask("select count(*) from evented_outbox where target = 'the queue'").await, 5_000);
    shop.emitted(3, 10).await;
    let read = async || {
        let sql = "select cast(sum(variable_value) as signed) from information_schema.global_status
            where variable_name like 'HANDLER_READ%'";
        server.client().ask("mysql", sql).unwrap().trim().parse::<u64>().unwrap()
    };
    let before = read().await;
    let relayed = leave().await;
    let again = leave().await;
    assert_eq!((relayed.put_off, again.put_off, again.next_due), (3, 0, None));
    let read = read().await - before;
    assert!(read < 500, "{read} rows were read for three");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_waits_is_due_when_the_one_before_it_is_finished() {
    let Some(shop) = Shop::new().await else { return };
    let store = open_outbox(&shop.url).await.unwrap();
    record(&store, &["book", "mail"]).await;
    shop.emitted(1, 10).await;
    let first = turn(&store, goes_in_order).await.claimed;
    assert_eq!(first.len(), 1);
    shop.emitted(3, 10).await;
    let relayed = turn(&store, goes_in_order).await;
    assert_eq!((relayed.put_off, relayed.claimed.len()), (3, 0));
    let soon = "select count(*) from evented_outbox where due_at < 1000 * unix_timestamp() + 30000";
    assert_eq!(shop.ask(soon).await, 0, "nobody looks at them in between");
    // The one before them stands aside for longer.
    let aside = PutBack { row: first[0].clone(), delay: LONG, error: Some("refused".to_owned()) };
    crate::store::outbox(&store).put_back(vec![aside]).await.unwrap();
    assert_eq!(shop.ask("select count(*) from evented_outbox where error = 'refused'").await, 1);
    assert!(turn(&store, goes_in_order).await.claimed.is_empty());
    shop.execute("update evented_outbox set due_at = 1 where error = 'refused'").await;
    let first = turn(&store, goes_in_order).await.claimed;
    assert_eq!(first.len(), 1);
    assert_eq!(crate::store::outbox(&store).finish(first).await.unwrap(), [true]);
    let rest = turn(&store, goes_in_order).await.claimed;
    assert_eq!(rest.len(), 3, "all that follow go in one turn, in order");
    assert!(rest.is_sorted_by_key(|row| row.row));
    // One that somebody deletes by hand holds up nobody.
    shop.emitted(1, 10).await;
    assert_eq!(turn(&store, goes_in_order).await.put_off, 1);
    shop.execute("delete from evented_outbox where lease is not null").await;
    shop.execute("update evented_outbox set due_at = 1").await;
    eventually("the last goes", async || !turn(&store, goes_in_order).await.claimed.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_payloads_beyond_a_turns_bytes_are_left_for_the_next() {
    let Some(shop) = Shop::new().await else { return };
    let store = open_outbox(&shop.url).await.unwrap();
    record(&store, &["book", "mail"]).await;
    shop.emitted(9, 100_000).await;
    shop.emitted(1, 900_000).await;
    let mut sizes = Vec::new();
    loop {
        let relay = Relay { bytes: 350_000, rows: 4, ..turn_of(generation(&store).await, goes) };
        let claimed = crate::store::outbox(&store).relay(relay).await.unwrap().claimed;
        if claimed.is_empty() {
            break;
        }
        assert!(claimed.iter().all(|row| row.payload.iter().all(|byte| *byte == b'x')));
        sizes.push(claimed.iter().map(|row| row.payload.len()).collect::<Vec<_>>());
    }
    assert_eq!(sizes, [vec![100_000; 3], vec![100_000; 3], vec![100_000; 3], vec![900_000]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_settled_elsewhere_is_forgotten_by_age() {
    let (Some(shop), seen) = (Shop::new().await, Seen::default()) else { return };
    let app = shop.run(&seen).role(Role::Emit).await.unwrap();
    let store = open_outbox(&shop.url).await.unwrap();
    let delivery = delivery("book", 1).id;
    let run = || -> evented::store::TxCall<'static> { Box::new(|_| Box::pin(async { Ok(()) })) };
    crate::store::outbox(&store).transact(Fence::Once(delivery), run()).await.unwrap();
    crate::store::outbox(&store).settled(vec![delivery]).await.unwrap();
    sweep(&store).await;
    assert_eq!(shop.ask("select count(*) from evented_inbox").await, 1);
    // Eleven minutes go by.
    shop.execute("update evented_inbox set at = at - 660000").await;
    sweep(&store).await;
    assert_eq!(shop.ask("select count(*) from evented_inbox").await, 0);
    drop(app);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_somebody_deleted_has_its_deliveries_again_and_no_other_has_them() {
    let Some(shop) = Shop::new().await else { return };
    let store = open_outbox(&shop.url).await.unwrap();
    record(&store, &["book"]).await;
    push(&store, vec![delivery("book", 1)]).await;
    shop.execute("truncate evented_handlers").await;
    record(&store, &["pack"]).await;
    let of_another = "select count(*) from evented_deliveries d join evented_handlers h on h.num = d.handler";
    assert_eq!(shop.ask(of_another).await, 0);
    record(&store, &["book"]).await;
    assert_eq!(shop.ask(of_another).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_limits_joins_is_counted_and_relayed_from() {
    let Some(server) = tokio::task::block_in_place(|| Mariadb::start(&[])) else { return };
    let shop = Shop::at(server.database()).await;
    drop(open_outbox(&shop.url).await.unwrap());
    shop.emitted(50, 10).await;
    server.client().ask("mysql", "set global max_join_size = 2").unwrap();
    let store = open_outbox(&shop.url).await.unwrap();
    record(&store, &["book"]).await;
    assert_eq!(crate::store::outbox(&store).count().await.unwrap(), 50);
    assert_eq!(turn(&store, stays).await.done, 50);
    assert_eq!(told(&store, "book").await, (50, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_key_whose_first_delivery_a_person_deleted_goes_on() {
    let Some(shop) = Shop::new().await else { return };
    let store = open_outbox(&shop.url).await.unwrap();
    record(&store, &["book"]).await;
    let of_key = |key: usize| {
        [1, 2, 3].map(|turn| NewDelivery {
            order: Some(Key::derive("book", &key.to_string())),
            ..delivery("book", 10 * key + turn)
        })
    };
    push(&store, (0..40).flat_map(of_key).collect()).await;
    shop.execute("delete from evented_deliveries where seq in (1, 4)").await;
    let due = "select count(*) from evented_deliveries where due_at < 9223372036854775807";
    assert_eq!(shop.ask(due).await, 38);
    sweep(&store).await;
    assert_eq!(shop.ask(due).await, 40);
    assert_eq!(
        shop.ask("select count(*) from evented_deliveries where due_at < 9223372036854775807 and seq in (2, 5)").await,
        2,
        "the next of each, and no more"
    );
}
