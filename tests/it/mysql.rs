//! What only an outbox in MySQL can be asked: an application's database on a server, with other processes and other
//! transactions in it.

mod kept;
mod schema;
mod sessions;

use std::{sync::Arc, time::Duration};

use evented::{
    DeliveryId, ErrorKind, EventId, InTx, Key, Policy, Priority, SessionId,
    outbox::{Kind, Ran, Statement, Value},
    prelude::*,
    sqlx::{MySql, MySqlPool, mysql::MySqlPoolOptions, query, query_scalar},
    store::{
        Claim, ClaimHandler, ClaimQueue, Elsewhere, Fan, Lapsed, Lease, NewDelivery, OutboxRow, Relay, Relayed, Store,
        open_outbox, open_queue,
    },
};
use evented_tests::{DEADLINE, Place, Seen, eventually, servers::Mariadb};
use serde::{Deserialize, Serialize};

/// An application's database, with a table `ledger (entry)`.
struct Shop {
    place: Place,
    url: String,
    pool: MySqlPool,
}

impl Shop {
    /// On the server that the tests of this process share; `None` where none is installed.
    async fn new() -> Option<Self> {
        let url = tokio::task::block_in_place(|| Some(Mariadb::shared()?.database()))?;
        Some(Self::at(url).await)
    }

    async fn at(url: String) -> Self {
        let pool = MySqlPoolOptions::new().max_connections(4).connect(&url).await.unwrap();
        query("create table if not exists ledger (entry bigint not null)").execute(&pool).await.unwrap();
        Self { place: Place::new(), url, pool }
    }

    fn run(&self, seen: &Seen) -> evented::Run {
        let run = evented::run().install(false).module(module_path!()).queue(self.place.queue());
        run.outbox(self.pool.clone()).state(seen.clone())
    }

    async fn ledger(&self) -> Vec<i64> {
        query_scalar("select entry from ledger order by entry").fetch_all(&self.pool).await.unwrap()
    }

    async fn number(&self, sql: &'static str) -> i64 {
        query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }
}

#[event(transactional)]
#[derive(Serialize, Deserialize)]
struct Sailed {
    entry: i64,
}

#[handler(Sailed, outbox(retries = 50, backoff(fixed = "1ms")))]
async fn book(event: Sailed, tx: &mut Tx<MySql>, delivery: Delivery) -> anyhow::Result<()> {
    query("insert into ledger values (?)").bind(event.entry).execute(&mut **tx).await?;
    anyhow::ensure!(event.entry % 5 != 0 || delivery.attempt() > 1, "failed after its write");
    emit_in(tx, Moored { entry: event.entry }).await?;
    Ok(())
}

#[handler(Sailed, background)]
async fn tell(event: Sailed, seen: State<Seen>) {
    seen.note(format!("told {}", event.entry));
}

#[handler(Sailed, in_process(in_transaction))]
async fn check(event: &Sailed, tx: &mut Tx<MySql>) -> anyhow::Result<()> {
    query("insert into ledger values (?)").bind(-event.entry).execute(&mut **tx).await?;
    anyhow::ensure!(event.entry != 13, "thirteen is refused");
    Ok(())
}

#[event(transactional)]
#[derive(Serialize, Deserialize)]
struct Moored {
    entry: i64,
}

#[handler(Moored, outbox)]
async fn moored(event: Moored, seen: State<Seen>) {
    seen.note(format!("moored {}", event.entry));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_exists_if_and_only_if_its_transaction_commits() {
    let (Some(shop), seen) = (Shop::new().await, Seen::default()) else { return };
    let app = shop.run(&seen).await.unwrap();
    let mut tx = evented::begin(&shop.pool).await.unwrap();
    app.emit_in(&mut tx, Sailed { entry: 1 }).await.unwrap();
    tx.rollback().await.unwrap();
    let mut tx = evented::begin(&shop.pool).await.unwrap();
    app.emit_in(&mut tx, Sailed { entry: 2 }).await.unwrap();
    let error = app.emit_in(&mut tx, Sailed { entry: 13 }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Handler);
    tx.commit().await.unwrap();
    app.until_idle().await.unwrap();
    assert_eq!(shop.ledger().await, [-2, 2]);
    let mut all = seen.all();
    all.sort();
    assert_eq!(all, ["moored 2", "told 2"]);
    assert_eq!(shop.number("select count(*) from evented_outbox").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_one_outbox_have_each_effect_once() {
    let (Some(shop), seen) = (Shop::new().await, Seen::default()) else { return };
    let (one, other) = (shop.run(&seen).await.unwrap(), shop.run(&seen).await.unwrap());
    for entry in 100..150 {
        // Begun by sqlx itself, of which nobody tells the relay.
        let mut tx = shop.pool.begin().await.unwrap();
        one.emit_in(&mut tx, Sailed { entry }).await.unwrap();
        tx.commit().await.unwrap();
    }
    one.until_idle().await.unwrap();
    other.until_idle().await.unwrap();
    let expected: Vec<i64> = (100..150).map(|entry: i64| -entry).rev().chain(100..150).collect();
    assert_eq!(shop.ledger().await, expected);
    for entry in 100..150 {
        assert_eq!((seen.count(&format!("told {entry}")), seen.count(&format!("moored {entry}"))), (1, 1));
    }
    let counts = one.counts().await.unwrap();
    let book = counts.iter().find(|count| count.handler == "Sailed/book").unwrap();
    assert_eq!((book.done, book.retried, book.dead), (50, 10, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_commits_late_is_not_lost() {
    let (Some(shop), seen) = (Shop::new().await, Seen::default()) else { return };
    let app = shop.run(&seen).await.unwrap();
    let mut late = shop.pool.begin().await.unwrap();
    app.emit_in(&mut late, Sailed { entry: 1 }).await.unwrap();
    let mut soon = shop.pool.begin().await.unwrap();
    app.emit_in(&mut soon, Sailed { entry: 2 }).await.unwrap();
    soon.commit().await.unwrap();
    eventually("the later row is delivered", async || seen.count("moored 2") == 1).await;
    // Longer than anybody looks closely for it.
    tokio::time::sleep(Duration::from_secs(3)).await;
    late.commit().await.unwrap();
    eventually("the earlier row is delivered", async || seen.count("moored 1") == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_of_another_database_is_refused_and_goes_on() {
    let (Some(shop), Some(other), seen) = (Shop::new().await, Shop::new().await, Seen::default()) else { return };
    let app = shop.run(&seen).await.unwrap();
    for has_tables in [false, true] {
        if has_tables {
            drop(open_outbox(&other.url).await.unwrap());
        }
        let mut tx = evented::begin(&other.pool).await.unwrap();
        query("insert into ledger values (7)").execute(&mut *tx).await.unwrap();
        let error = app.emit_in(&mut tx, Moored { entry: 1 }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoOutbox, "{error:?}");
        assert!(error.to_string().contains(".outbox(pool)"), "{error}");
        tx.commit().await.unwrap();
    }
    assert_eq!(other.ledger().await, [7, 7]);
    assert_eq!(other.number("select count(*) from evented_outbox").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_emitted_twice_is_one_and_leaves_the_transaction_as_it_was() {
    let (Some(shop), seen) = (Shop::new().await, Seen::default()) else { return };
    let app = shop.run(&seen).await.unwrap();
    let id = EventId::from_key("the parcel");
    let mut tx = evented::begin(&shop.pool).await.unwrap();
    for _ in 0..2 {
        app.emit_in(&mut tx, Moored { entry: 3 }).id(id).await.unwrap();
        query("insert into ledger values (3)").execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    app.until_idle().await.unwrap();
    assert_eq!((shop.ledger().await, seen.all()), (vec![3, 3], vec!["moored 3".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_applications_session_may_have_another_time_zone_and_be_lax() {
    let (Some(shop), seen) = (Shop::new().await, Seen::default()) else { return };
    let app = shop.run(&seen).await.unwrap();
    let mut tx = evented::begin(&shop.pool).await.unwrap();
    query("set time_zone = '+13:00', sql_mode = 'ANSI'").execute(&mut *tx).await.unwrap();
    app.emit_in(&mut tx, Moored { entry: 4 }).await.unwrap();
    tx.commit().await.unwrap();
    app.until_idle().await.unwrap();
    assert_eq!(seen.all(), ["moored 4"]);
}

/// A transaction of another library, which knows no more of the database than a statement's text and its values.
struct Foreign<'t>(evented::sqlx::Transaction<'t, MySql>);
struct Library;

impl InTx<Library> for Foreign<'_> {
    fn kind(&self) -> Kind {
        Kind::of::<MySql>()
    }

    fn run<'a>(&'a mut self, statement: &'a Statement) -> Ran<'a> {
        Box::pin(async move {
            let bound = statement.values().iter().fold(query(statement.sql()), |query, value| match value {
                Value::Bytes(bytes) => query.bind(bytes.clone()),
                Value::Text(text) => query.bind(text.clone()),
                Value::Integer(number) => query.bind(*number),
            });
            Ok(bound.execute(&mut *self.0).await?.rows_affected())
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_of_another_library_writes_to_its_own_outbox_alone() {
    let (Some(shop), Some(other), seen) = (Shop::new().await, Shop::new().await, Seen::default()) else { return };
    let app = shop.run(&seen).await.unwrap();
    drop(open_outbox(&other.url).await.unwrap());
    let mut wrong = Foreign(other.pool.begin().await.unwrap());
    let error = app.emit_in(&mut wrong, Moored { entry: 5 }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoOutbox, "{error:?}");
    wrong.0.commit().await.unwrap();
    assert_eq!(other.number("select count(*) from evented_outbox").await, 0);
    let mut right = Foreign(shop.pool.begin().await.unwrap());
    app.emit_in(&mut right, Moored { entry: 6 }).await.unwrap();
    right.0.commit().await.unwrap();
    eventually("it is delivered", async || seen.count("moored 6") == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_killed_and_started_again_loses_and_repeats_nothing() {
    let Some(mut server) = tokio::task::block_in_place(|| Mariadb::start(&[])) else { return };
    let shop = Shop::at(server.database()).await;
    let seen = Seen::default();
    let app = shop.run(&seen).lease(Duration::from_secs(2)).await.unwrap();
    let mut committed = Vec::new();
    for entry in 100..200 {
        if entry % 40 == 0 {
            tokio::task::block_in_place(|| server.restart());
        }
        let emitting = async {
            let mut tx = evented::begin(&shop.pool).await?;
            app.emit_in(&mut tx, Sailed { entry }).await?;
            tx.commit().await?;
            Ok::<(), evented::Error>(())
        };
        // What was not committed is not asked for.
        if emitting.await.is_ok() {
            committed.push(entry);
        }
    }
    assert!(committed.len() >= 80, "{committed:?}");
    let moored = |entry: &i64| seen.count(&format!("moored {entry}")) >= 1;
    eventually("all is delivered", async || committed.iter().all(moored)).await;
    app.until_idle().await.unwrap();
    let booked: Vec<i64> = shop.ledger().await.into_iter().filter(|entry| *entry > 0).collect();
    assert!(booked.is_sorted_by(|one, next| one < next), "each once: {booked:?}");
    assert!(committed.iter().all(|entry| booked.contains(entry)), "{committed:?} {booked:?}");
    assert!(app.dead_letters().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_silent_is_given_up_and_asked_again_when_it_answers() {
    let Some(mut server) = tokio::task::block_in_place(|| Mariadb::start(&[])) else { return };
    let store = open_outbox(server.database()).await.unwrap();
    crate::store::admin(&store).stats().await.unwrap();
    server.stop();
    let asked = tokio::time::timeout(DEADLINE, crate::store::admin(&store).stats()).await.expect("it is given up");
    assert!(asked.unwrap_err().is_transient());
    server.cont();
    crate::store::admin(&store).stats().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_ways_of_writing_a_url_are_one_store_without_its_password() {
    let Some(shop) = Shop::new().await else { return };
    query("create user if not exists 'ada'@'%' identified by 'secret'").execute(&shop.pool).await.unwrap();
    query("grant all on *.* to 'ada'@'%'").execute(&shop.pool).await.unwrap();
    let store = open_outbox(&shop.url).await.unwrap();
    let named = open_outbox(shop.url.replace("root@127.0.0.1", "ada:secret@localhost")).await.unwrap();
    assert_eq!(store.about.name(), named.about.name());
    assert!(!named.about.name().contains("secret") && !named.about.name().contains("ada"), "{}", named.about.name());
    let Some(other) = Shop::new().await else { return };
    assert_ne!(open_outbox(&other.url).await.unwrap().about.name(), store.about.name());
    assert!(store.about.promise().contains("innodb_flush_log_at_trx_commit=1"), "{}", store.about.promise());
}

#[tokio::test]
async fn it_is_no_queue_and_says_what_is_one() {
    let Err(error) = open_queue("mysql://ada:secret@localhost/shop").await else { panic!("it is no queue") };
    let text = error.to_string();
    assert!(text.contains("`.outbox(pool)`") && text.contains("sqlite:") && !text.contains("secret"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_start_together_on_a_new_database_make_one_outbox() {
    let Some(shop) = Shop::new().await else { return };
    let opening = (0..8).map(|_| {
        tokio::spawn({
            let url = shop.url.clone();
            async move { open_outbox(&url).await.unwrap().about.name().to_owned() }
        })
    });
    let mut names = Vec::new();
    for opened in opening.collect::<Vec<_>>() {
        names.push(opened.await.unwrap());
    }
    names.dedup();
    assert_eq!(names.len(), 1);
    query("update evented_schema set version = 9, min_compatible = 8").execute(&shop.pool).await.unwrap();
    let Err(error) = open_outbox(&shop.url).await else { panic!("this release must not go on with that schema") };
    assert!(!error.is_transient() && error.to_string().contains("update evented"), "{error}");
}

/// What a row is for a handler.
fn of_row(row: &OutboxRow, handler: &str, order: Option<Key>) -> NewDelivery {
    NewDelivery {
        id: DeliveryId::derive(row.event_id, handler),
        event_id: row.event_id,
        handler: handler.into(),
        origin: row.origin.clone(),
        version: 1,
        emitted_unix_ms: None,
        delay: Duration::ZERO,
        policy: Policy::DEFAULT,
        unique: None,
        order,
        payload: row.payload.clone(),
    }
}

/// Relays what is due.
async fn relay(store: &Store, fan_out: fn(&OutboxRow) -> Fan) -> Relayed {
    let generation = store.catalogue.read().await.unwrap().generation;
    let relay = Relay {
        generation,
        rows: 100,
        bytes: usize::MAX,
        lease: Duration::from_mins(1),
        target: Some("the queue".into()),
        elsewhere: Elsewhere::Lease,
        fan_out: Arc::new(fan_out),
        claim: None,
    };
    crate::store::outbox(store).relay(relay).await.unwrap()
}

/// To deliveries elsewhere that all have one order key.
async fn relay_ordered(store: &Store) -> Relayed {
    fn key(row: &OutboxRow) -> Vec<NewDelivery> {
        vec![of_row(row, "mail", Some(Key::derive("mail", "customer 1")))]
    }
    relay(store, |row| Fan { elsewhere: key(row), ..Fan::default() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_an_order_key_waits_for_one_that_another_relay_has_locked() {
    let (Some(shop), seen) = (Shop::new().await, Seen::default()) else { return };
    let app = shop.run(&seen).role(Role::Emit).await.unwrap();
    for entry in 1..=3 {
        let mut tx = evented::begin(&shop.pool).await.unwrap();
        app.emit_in(&mut tx, Moored { entry }).await.unwrap();
        tx.commit().await.unwrap();
    }
    let store = open_outbox(&shop.url).await.unwrap();
    // As a relay in another process does until its commit.
    let mut other = shop.pool.begin().await.unwrap();
    query("select seq from evented_outbox order by seq limit 1 for update").execute(&mut *other).await.unwrap();
    let relayed = relay_ordered(&store).await;
    assert_eq!((relayed.done, relayed.claimed.len()), (0, 0), "they wait for the first");
    other.rollback().await.unwrap();
    let mut taken = Vec::new();
    eventually("all are taken", async || {
        let rows = relay_ordered(&store).await.claimed;
        crate::store::outbox(&store).finish(rows.clone()).await.unwrap();
        taken.extend(rows);
        taken.len() == 3
    })
    .await;
    assert!(taken.is_sorted_by_key(|row| row.row), "in order: {taken:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_renewed_past_a_row_that_another_transaction_holds() {
    let (Some(shop), seen) = (Shop::new().await, Seen::default()) else { return };
    let app = shop.run(&seen).role(Role::Emit).await.unwrap();
    let store = open_outbox(&shop.url).await.unwrap();
    let mut tx = evented::begin(&shop.pool).await.unwrap();
    for entry in 1..=2 {
        app.emit_in(&mut tx, Moored { entry }).await.unwrap();
    }
    tx.commit().await.unwrap();
    let relayed = relay(&store, |row| Fan { here: vec![of_row(row, "Moored/moored", None)], ..Fan::default() }).await;
    assert_eq!(relayed.done, 2);
    let leases = claim(&store, "Moored/moored").await;
    let mut other = shop.pool.begin().await.unwrap();
    query("select seq from evented_deliveries where seq = ? for update")
        .bind(leases[0].row)
        .execute(&mut *other)
        .await
        .unwrap();
    let extending = store.queue.extend(evented::SessionId::from_i64(2), &leases, Duration::from_hours(1));
    let held = tokio::time::timeout(Duration::from_secs(4), extending).await.expect("it waits for nobody").unwrap();
    assert_eq!(held, [true, true]);
    other.rollback().await.unwrap();
    let renewed =
        shop.number("select count(*) from evented_deliveries where due_at > 1000 * unix_timestamp() + 1800000");
    assert_eq!(renewed.await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_passes_a_row_by_that_another_transaction_holds() {
    let (Some(shop), seen) = (Shop::new().await, Seen::default()) else { return };
    let app = shop.run(&seen).role(Role::Emit).await.unwrap();
    let store = open_outbox(&shop.url).await.unwrap();
    let mut tx = evented::begin(&shop.pool).await.unwrap();
    for entry in 1..=2 {
        app.emit_in(&mut tx, Moored { entry }).await.unwrap();
    }
    tx.commit().await.unwrap();
    relay(&store, |row| Fan { here: vec![of_row(row, "Moored/moored", None)], ..Fan::default() }).await;
    let mut other = shop.pool.begin().await.unwrap();
    let first = "select seq from evented_deliveries order by seq limit 1 for update";
    query(first).execute(&mut *other).await.unwrap();
    let claiming = claim(&store, "Moored/moored");
    let claimed = tokio::time::timeout(Duration::from_secs(4), claiming).await.expect("it waits for nobody");
    assert_eq!(claimed.len(), 1);
    other.rollback().await.unwrap();
    assert_eq!(claim(&store, "Moored/moored").await.len(), 1);
}

async fn claim(store: &Store, handler: &str) -> Vec<Lease> {
    // As a worker does.
    let handlers = vec![ClaimHandler { name: handler.into(), version: 1, priority: Priority::Normal, wanted: 10 }];
    let queues = vec![ClaimQueue { name: "default".into(), handlers, wanted: 10 }];
    let claim = Claim { queues, lease: Duration::from_mins(1), session: SessionId::from_i64(1), lapsed: Lapsed::Take };
    let claimed = store.queue.exchange(Arc::new([]), Some(claim)).await.unwrap().claims.deliveries;
    claimed.into_iter().map(|claimed| claimed.lease).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_process_asks_the_server_seldom() {
    let Some(server) = tokio::task::block_in_place(|| Mariadb::start(&[])) else { return };
    let (shop, seen) = (Shop::at(server.database()).await, Seen::default());
    let app = shop.run(&seen).await.unwrap();
    let mut tx = shop.pool.begin().await.unwrap();
    app.emit_in(&mut tx, Sailed { entry: 1 }).await.unwrap();
    tx.commit().await.unwrap();
    app.until_idle().await.unwrap();
    // Until it looks as seldom as it ever does.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let asked = || server.client().ask("mysql", "show global status like 'Com_select'").unwrap();
    let number = |answer: String| answer.rsplit('\t').next().unwrap().parse::<u64>().unwrap();
    let before = number(asked());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let asked = number(asked()) - before;
    // One to look each second, and each flow by itself now and then.
    assert!(asked <= 9, "{asked} statements in five seconds");
    drop(app);
}

#[event(transactional)]
#[derive(Serialize, Deserialize)]
struct Swapped {
    first: i64,
    second: i64,
}

/// Two of these at once wait for each other, until the server gives one of them up.
#[handler(Swapped, outbox(retries = 20, backoff(fixed = "20ms")))]
async fn swap(event: Swapped, tx: &mut Tx<MySql>) -> Result<(), evented::sqlx::Error> {
    for entry in [event.first, event.second] {
        query("update stock set moved = moved + 1 where entry = ?").bind(entry).execute(&mut **tx).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_deadlock_have_each_effect_once() {
    let (Some(shop), seen) = (Shop::new().await, Seen::default()) else { return };
    query("create table stock (entry bigint primary key, moved bigint not null)").execute(&shop.pool).await.unwrap();
    query("insert into stock values (1, 0), (2, 0)").execute(&shop.pool).await.unwrap();
    let app = shop.run(&seen).await.unwrap();
    let mut tx = evented::begin(&shop.pool).await.unwrap();
    for number in 0..10 {
        let (first, second) = if number % 2 == 0 { (1, 2) } else { (2, 1) };
        app.emit_in(&mut tx, Swapped { first, second }).await.unwrap();
    }
    tx.commit().await.unwrap();
    app.until_idle().await.unwrap();
    assert_eq!(shop.number("select min(moved) * 100 + max(moved) from stock").await, 1010);
}
