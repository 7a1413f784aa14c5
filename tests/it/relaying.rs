//! What stands in a relay's way holds up only what needs it: a queue that is away, a batch that is too large, a slow link, one
//! row that is refused.

use std::time::Duration;

use evented::{
    App, Run,
    prelude::*,
    sqlx::{
        Connection, PgPool, SqliteConnection, SqlitePool, query, query_as, query_scalar, sqlite::SqliteConnectOptions,
    },
};
use evented_tests::{
    Place, Seen, eventually,
    proxy::Proxy,
    servers::{Postgres, Redis},
};
use serde::{Deserialize, Serialize};
use tokio::task::block_in_place;

#[event(transactional, id = "relaying.paid")]
#[derive(Serialize, Deserialize)]
struct Paid {
    number: u32,
    text: String,
}

#[handler(Paid, outbox, id = "relaying.book")]
async fn book(event: Paid, tx: &mut Tx<Sqlite>, seen: State<Seen>) -> anyhow::Result<()> {
    query("insert into ledger (entry) values (?)").bind(event.number).execute(&mut **tx).await?;
    seen.note(format!("book {}", event.number));
    Ok(())
}

#[handler(Paid, outbox(ordered_by = "text"), id = "relaying.follow")]
async fn follow(event: Paid, seen: State<Seen>) {
    seen.note(format!("follow {}", event.number));
}

#[handler(Paid, background, id = "relaying.mail")]
async fn mail(event: Paid, seen: State<Seen>) {
    seen.note(format!("mail {}", event.number));
}

/// A larger one, with a handler in the queue alone.
#[event(transactional, id = "relaying.scanned")]
#[derive(Serialize, Deserialize)]
struct Scanned {
    number: u32,
    image: String,
}

#[handler(Scanned, background, id = "relaying.print")]
async fn print(event: Scanned, seen: State<Seen>) {
    seen.note(format!("print {}", event.number));
}

#[handler(Scanned, background, id = "relaying.keep")]
async fn keep(event: Scanned, seen: State<Seen>) {
    seen.note(format!("keep {}", event.number));
}

#[handler(Scanned, background, id = "relaying.archive")]
async fn archive(_event: Scanned) {}

/// One with an order key.
#[event(transactional, id = "relaying.logged")]
#[derive(Serialize, Deserialize)]
struct Logged {
    number: u32,
    ship: String,
    text: String,
}

#[handler(Logged, background(ordered_by = "ship"), id = "relaying.file")]
async fn file(event: Logged, seen: State<Seen>) {
    seen.note(format!("file {}", event.number));
}

/// What a process has that works beside the outbox alone.
mod alone {
    use super::*;

    pub const HERE: &str = module_path!();

    #[event(transactional, id = "relaying.rested")]
    #[derive(Serialize, Deserialize)]
    struct Rested;

    #[handler(Rested, outbox, id = "relaying.rest")]
    async fn rest(_event: Rested) {}
}

/// What is on Postgres.
mod own {
    use super::*;

    #[event(transactional, id = "relaying.moved_in")]
    #[derive(Serialize, Deserialize)]
    struct MovedIn {
        number: u32,
    }

    #[handler(MovedIn, background, id = "relaying.note")]
    async fn note(event: MovedIn, seen: State<Seen>) {
        seen.note(format!("note {}", event.number));
    }

    pub fn run(pool: &PgPool, seen: &Seen) -> Run {
        let run = evented::run().install(false).module(module_path!()).state(seen.clone()).outbox(pool.clone());
        run.grace(Duration::from_secs(1)).lease(Duration::from_secs(2))
    }

    pub async fn emit(app: &App, pool: &PgPool, number: u32) {
        let mut tx = evented::begin(pool).await.unwrap();
        app.emit_in(&mut tx, MovedIn { number }).await.unwrap();
        tx.commit().await.unwrap();
    }
}

fn run(queue: &str, pool: &SqlitePool, seen: &Seen) -> Run {
    let run = evented::run().install(false).module(module_path!()).state(seen.clone()).grace(Duration::from_secs(1));
    run.queue(queue).outbox(pool.clone()).lease(Duration::from_secs(3))
}

async fn pay(app: &App, pool: &SqlitePool, numbers: std::ops::Range<u32>) {
    let mut tx = evented::begin(pool).await.unwrap();
    for number in numbers {
        app.emit_in(&mut tx, Paid { number, text: "one key".to_owned() }).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn scan(app: &App, pool: &SqlitePool, numbers: std::ops::Range<u32>, bytes: usize) {
    for number in numbers {
        let mut tx = evented::begin(pool).await.unwrap();
        app.emit_in(&mut tx, Scanned { number, image: "x".repeat(bytes) }).await.unwrap();
        tx.commit().await.unwrap();
    }
}

/// What one handler noted, in its order.
fn noted(seen: &Seen, handler: &str) -> Vec<u32> {
    let number = |noted: &String| noted.strip_prefix(handler)?.strip_prefix(' ')?.parse().ok();
    seen.all().iter().filter_map(number).collect()
}

/// How a queue is away.
enum Away {
    Cut,
    Silent,
}

/// The queue is away from the first event on: what is beside the outbox runs, in its order; the rest when it is back.
async fn runs_without_its_queue(target: String, url: impl Fn(String) -> String, away: Away) {
    let (place, seen) = (Place::new(), Seen::default());
    let pool = place.pool().await;
    let mut proxy = Proxy::start(target).await;
    let app = run(&url(proxy.address().to_string()), &pool, &seen).await.unwrap();
    match away {
        Away::Cut => proxy.cut().await,
        Away::Silent => proxy.hang().await,
    }
    for number in 0..20 {
        pay(&app, &pool, number..number + 1).await;
    }
    eventually("the outbox's own handlers run", async || {
        noted(&seen, "book").len() == 20 && noted(&seen, "follow").len() == 20
    })
    .await;
    assert_eq!(noted(&seen, "follow"), (0..20).collect::<Vec<_>>());
    assert_eq!(noted(&seen, "mail").len(), 0);
    proxy.mend().await;
    eventually("the others run when it is back", async || noted(&seen, "mail").len() == 20).await;
    app.until_idle().await.unwrap();
    for handler in ["book", "follow", "mail"] {
        assert_eq!(noted(&seen, handler).len(), 20, "{handler}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outbox_handlers_run_while_the_queues_redis_is_away() {
    for away in [Away::Cut, Away::Silent] {
        let Some(redis) = block_in_place(Redis::shared) else { return };
        let prefix = redis.prefix();
        let url = |address| format!("redis://{address}/0?prefix={prefix}");
        runs_without_its_queue(format!("127.0.0.1:{}", redis.port()), url, away).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outbox_handlers_run_while_the_queues_postgres_is_away() {
    for away in [Away::Cut, Away::Silent] {
        let Some(postgres) = block_in_place(Postgres::shared) else { return };
        let (database, target) = (block_in_place(|| postgres.database()), format!("127.0.0.1:{}", postgres.port()));
        runs_without_its_queue(target.clone(), |address| database.replace(&target, &address), away).await;
    }
}

/// An outbox that fed a queue beside it becomes its own queue, with an event that was on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_that_fed_another_queue_becomes_its_own() {
    let Some(postgres) = block_in_place(Postgres::shared) else { return };
    let database = block_in_place(|| postgres.database());
    let (place, seen) = (Place::new(), Seen::default());
    let pool = PgPool::connect(&database).await.unwrap();
    let run = |queue: &str| own::run(&pool, &seen).queue(queue);
    let app = run(&place.queue()).await.unwrap();
    own::emit(&app, &pool, 1).await;
    eventually("the first is handled", async || seen.count("note 1") == 1).await;
    // The file's lock is held, so that the next is taken and does not get there.
    let options = SqliteConnectOptions::new().filename(place.path("evented.db"));
    let mut holder = SqliteConnection::connect_with(&options).await.unwrap();
    query("begin immediate").execute(&mut holder).await.unwrap();
    own::emit(&app, &pool, 2).await;
    let taken =
        async || -> i64 { query_scalar("select count(target) from evented_outbox").fetch_one(&pool).await.unwrap() };
    eventually("a relay takes it", async || taken().await == 1).await;
    let stopping = tokio::spawn(async move { app.stop().await });
    let refused = run(&database).await.unwrap_err().to_string();
    assert!(refused.contains("evented::adopt"), "{refused}");
    evented::adopt(&database, &database).await.unwrap();
    let app = run(&database).await.unwrap();
    eventually("it is handled from where it is", async || seen.count("note 2") == 1).await;
    holder.close().await.unwrap();
    stopping.await.unwrap();
    app.until_idle().await.unwrap();
    assert_eq!(seen.all(), ["note 1", "note 2"]);
}

/// A process without a queue knows from the outbox which one it feeds, and takes its rows for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_without_a_queue_takes_rows_for_the_one_that_is_fed() {
    let (place, seen) = (Place::new(), Seen::default());
    let pool = place.pool().await;
    // The handlers of another module, beside the outbox alone, before anybody needs a queue.
    let alone = evented::run().install(false).module(alone::HERE).state(seen.clone()).outbox(pool.clone());
    let alone = alone.lease(Duration::from_secs(3)).await.unwrap();
    run(&place.queue(), &pool, &seen).await.unwrap().stop().await;
    pay(&alone, &pool, 0..20).await;
    let rows = async || -> (i64, i64) {
        query_as("select count(target), count(*) from evented_outbox").fetch_one(&pool).await.unwrap()
    };
    eventually("they are taken", async || rows().await == (20, 20)).await;
    let app = run(&place.queue(), &pool, &seen).await.unwrap();
    eventually("all run", async || ["book", "follow", "mail"].iter().all(|who| noted(&seen, who).len() == 20)).await;
    assert_eq!(noted(&seen, "follow"), (0..20).collect::<Vec<_>>());
    alone.stop().await;
    app.stop().await;
}

/// An emitting instance that is gone again: nothing relays meanwhile.
async fn prepare(queue: &str, pool: &SqlitePool, bytes: usize, large: u32) {
    let emits = run(queue, pool, &Seen::default()).role(Role::Emit).await.unwrap();
    scan(&emits, pool, 0..large, bytes).await;
    scan(&emits, pool, large..large + 10, 10).await;
    emits.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_redis_takes_at_once_is_pushed_in_parts() {
    let Some(redis) = block_in_place(Redis::shared) else { return };
    let (place, seen) = (Place::new(), Seen::default());
    let (pool, queue) = (place.pool().await, format!("{}/0?prefix={}", redis.url(), redis.prefix()));
    // For three handlers each that is 360 MB: more than the server takes in one request of ours.
    prepare(&queue, &pool, 240_000, 500).await;
    let app = run(&queue, &pool, &seen).lease(Duration::from_secs(30)).await.unwrap();
    eventually("all is delivered", async || {
        (500..510).all(|number| seen.count(&format!("print {number}")) == 1) && noted(&seen, "keep").len() == 510
    })
    .await;
    app.until_idle().await.unwrap();
    assert_eq!(noted(&seen, "print").len(), 510);
    app.stop().await;
}

/// How many rows are too much for the slow link.
const LARGE: u32 = 10;

/// Behind a link that takes a while for each piece, a batch of all rows takes longer than their lease.
async fn over_a_slow_link(target: String, url: impl Fn(String) -> String) {
    let (place, seen) = (Place::new(), Seen::default());
    let pool = place.pool().await;
    let proxy = Proxy::start(&target).await;
    prepare(&url(target), &pool, 200_000, LARGE).await;
    // 16 KB in 30 ms: half a megabyte in a second, and there are four of them, which go there and back.
    proxy.delay(Duration::from_millis(30));
    // Of which a third is enough for one row: both handlers' copies take it 0.8 seconds.
    let run = run(&url(proxy.address().to_string()), &pool, &seen).lease(Duration::from_secs(9));
    let app = run.await.unwrap();
    let mut before = 0;
    // It takes longer than one deadline, and goes on in each.
    let all = usize::try_from(LARGE).unwrap() + 10;
    while noted(&seen, "print").len() < all || noted(&seen, "keep").len() < all {
        eventually("some more is delivered", async || seen.all().len() > before).await;
        before = seen.all().len();
    }
    proxy.delay(Duration::ZERO);
    app.until_idle().await.unwrap();
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_a_slow_link_to_redis_does_not_carry_within_a_lease_is_pushed_in_parts() {
    let Some(redis) = block_in_place(Redis::shared) else { return };
    let prefix = redis.prefix();
    let url = |address| format!("redis://{address}/0?prefix={prefix}");
    over_a_slow_link(format!("127.0.0.1:{}", redis.port()), url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_a_slow_link_to_postgres_does_not_carry_within_a_lease_is_pushed_in_parts() {
    let Some(postgres) = block_in_place(Postgres::shared) else { return };
    let (database, target) = (block_in_place(|| postgres.database()), format!("127.0.0.1:{}", postgres.port()));
    over_a_slow_link(target.clone(), |address| database.replace(&target, &address)).await;
}

/// The queue's server refuses one row, whatever batch it is in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_the_queue_refuses_does_not_hold_the_others() {
    let Some(postgres) = block_in_place(Postgres::shared) else { return };
    let (place, seen) = (Place::new(), Seen::default());
    let (pool, queue) = (place.pool().await, block_in_place(|| postgres.database()));
    let emits = run(&queue, &pool, &seen).role(Role::Emit).await.unwrap();
    let refuse =
        "alter table evented_deliveries add constraint no_more_than_a_page check (octet_length(payload) < 8000)";
    block_in_place(|| postgres.ask(&queue, refuse)).unwrap();
    scan(&emits, &pool, 0..5, 10).await;
    scan(&emits, &pool, 5..6, 10_000).await;
    scan(&emits, &pool, 6..20, 10).await;
    let app = run(&queue, &pool, &seen).role(Role::Work).await.unwrap();
    eventually("the others are delivered", async || {
        (0..20).filter(|number| *number != 5).all(|number| seen.count(&format!("print {number}")) == 1)
    })
    .await;
    eventually("the one that is refused is told", async || app.health().to_string().contains("no_more_than_a_page"))
        .await;
    let rows = async || -> i64 { query_scalar("select count(*) from evented_outbox").fetch_one(&pool).await.unwrap() };
    eventually("it alone is left", async || rows().await == 1).await;
    // Once it is taken, it goes on by itself.
    block_in_place(|| postgres.ask(&queue, "alter table evented_deliveries drop constraint no_more_than_a_page"))
        .unwrap();
    scan(&emits, &pool, 20..21, 10).await;
    eventually("it is delivered", async || seen.count("print 5") == 1).await;
    eventually("it is well", async || app.health().is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_the_queue_refuses_holds_up_those_of_its_order_key_alone() {
    let Some(postgres) = block_in_place(Postgres::shared) else { return };
    let (place, seen) = (Place::new(), Seen::default());
    let (pool, queue) = (place.pool().await, block_in_place(|| postgres.database()));
    let emits = run(&queue, &pool, &seen).role(Role::Emit).await.unwrap();
    let refuse = "alter table evented_deliveries add constraint no_page check (octet_length(payload) < 8000)";
    block_in_place(|| postgres.ask(&queue, refuse)).unwrap();
    // All are in one batch.
    let log = async |number, ship: &str, bytes| {
        let mut tx = evented::begin(&pool).await.unwrap();
        let event = Logged { number, ship: ship.to_owned(), text: "x".repeat(bytes) };
        emits.emit_in(&mut tx, event).await.unwrap();
        tx.commit().await.unwrap();
    };
    for (number, ship, bytes) in
        [(0, "ann", 10), (1, "ann", 10_000), (2, "ann", 10), (3, "bob", 10), (4, "ann", 10), (5, "bob", 10)]
    {
        log(number, ship, bytes).await;
    }
    let app = run(&queue, &pool, &seen).role(Role::Work).await.unwrap();
    eventually("the other key goes on", async || noted(&seen, "file").contains(&5)).await;
    eventually("the row that is refused is told", async || app.health().to_string().contains("no_page")).await;
    // It is tried again meanwhile, with those behind it.
    log(6, "bob", 10).await;
    eventually("the other key goes on still", async || noted(&seen, "file").contains(&6)).await;
    assert_eq!(noted(&seen, "file"), [0, 3, 5, 6], "those behind it wait");
    block_in_place(|| postgres.ask(&queue, "alter table evented_deliveries drop constraint no_page")).unwrap();
    eventually("all are delivered", async || noted(&seen, "file").len() == 7).await;
    assert_eq!(noted(&seen, "file"), [0, 3, 5, 6, 1, 2, 4]);
    app.stop().await;
}

/// A person has said that another queue takes the place of the one that a running process has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_queue_was_replaced_relays_nothing_to_it() {
    let (place, other, seen, seen_there) = (Place::new(), Place::new(), Seen::default(), Seen::default());
    let pool = place.pool().await;
    let app = run(&place.queue(), &pool, &seen).await.unwrap();
    let outbox = format!("sqlite:{}", place.path("shop.db").display());
    evented::adopt(&outbox, &other.queue()).await.unwrap();
    eventually("it is told", async || app.health().to_string().contains("evented::adopt")).await;
    scan(&app, &pool, 0..1, 10).await;
    let taken = "select count(target) from evented_outbox";
    eventually("the row is taken for the other one", async || {
        query_scalar::<_, i64>(taken).fetch_one(&pool).await.unwrap() == 1
    })
    .await;
    let there = run(&other.queue(), &pool, &seen_there).await.unwrap();
    eventually("it goes to the other one", async || seen_there.count("print 0") == 1).await;
    assert_eq!(seen.all().len(), 0);
    there.stop().await;
    app.stop().await;
}

/// What is pushed of a row that is another relay's by then: that one may push it much later, and the queue must know it still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pushed_of_a_row_that_another_relay_has_is_not_told_to_be_finished() {
    let Some(postgres) = block_in_place(Postgres::shared) else { return };
    let (database, target) = (block_in_place(|| postgres.database()), format!("127.0.0.1:{}", postgres.port()));
    let (place, seen) = (Place::new(), Seen::default());
    let pool = place.pool().await;
    let mut proxy = Proxy::start(&target).await;
    let queue = database.replace(&target, &proxy.address().to_string());
    let app = run(&queue, &pool, &seen).lease(Duration::from_mins(1)).await.unwrap();
    scan(&app, &pool, 0..1, 10).await;
    let rows = async |which: &'static str| -> i64 { query_scalar(which).fetch_one(&pool).await.unwrap() };
    eventually("the relay works", async || rows("select count(*) from evented_outbox").await == 0).await;
    proxy.hang().await;
    scan(&app, &pool, 1..2, 10).await;
    let leased = "select count(*) from evented_outbox where lease is not null and lease <> 0";
    eventually("it has the row", async || rows(leased).await == 1).await;
    query("update evented_outbox set lease = 1, due_at = due_at + 3600000").execute(&pool).await.unwrap();
    proxy.mend().await;
    eventually("it is pushed all the same", async || seen.count("print 1") == 1).await;
    // Each push tells what the ones before it have finished.
    for number in 2..4 {
        scan(&app, &pool, number..number + 1, 10).await;
        eventually("the next goes on", async || rows("select count(*) from evented_outbox").await == 1).await;
    }
    let of_event = "select count(*) from evented_once where at < extract(epoch from now()) * 1000 - 3600000";
    let finished = block_in_place(|| postgres.ask(&database, of_event)).unwrap();
    assert_eq!(finished.trim(), "6", "of the first and of the third, for three handlers each");
    app.stop().await;
}

/// On Redis a value can be of the wrong kind: the row's own key is taken by the operator's mistake, and the payload is bad in
/// the outbox itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_spoilt_in_the_outbox_does_not_hold_the_others() {
    let (place, seen) = (Place::new(), Seen::default());
    let pool = place.pool().await;
    let queue = place.queue();
    let emits = run(&queue, &pool, &seen).role(Role::Emit).await.unwrap();
    scan(&emits, &pool, 0..20, 10).await;
    let spoil = "update evented_outbox set correlation = x'00', event_id = x'01', version = -7
        where seq = (select seq + 5 from evented_outbox order by seq limit 1)";
    assert_eq!(query(spoil).execute(&pool).await.unwrap().rows_affected(), 1);
    let app = run(&queue, &pool, &seen).role(Role::Work).await.unwrap();
    eventually("the others are delivered", async || {
        (0..20).filter(|number| *number != 5).all(|number| seen.count(&format!("print {number}")) == 1)
    })
    .await;
    app.stop().await;
}

/// Its handler may come with a release that is still to come; how long ago it was emitted says nothing of how long it is due.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_an_event_that_nobody_knows_is_kept_when_its_delay_was_longer_than_such_rows_are() {
    let (place, seen) = (Place::new(), Seen::default());
    let pool = place.pool().await;
    let queue = place.queue();
    let emits = run(&queue, &pool, &seen).role(Role::Emit).await.unwrap();
    scan(&emits, &pool, 0..2, 10).await;
    // Emitted eight days ago, with a delay of eight days.
    let age = "update evented_outbox set event = 'relaying.removed', emitted_at = emitted_at - 8 * 86400000
        where seq = (select min(seq) from evented_outbox)";
    assert_eq!(query(age).execute(&pool).await.unwrap().rows_affected(), 1);
    let app = run(&queue, &pool, &seen).role(Role::Work).await.unwrap();
    eventually("the other is delivered", async || seen.count("print 1") == 1).await;
    eventually("both were looked at", async || {
        let due = "select count(*) from evented_outbox where due_at <= 1000 * unixepoch()";
        let due: i64 = query_scalar(due).fetch_one(&pool).await.unwrap();
        due == 0
    })
    .await;
    let left: Vec<String> = query_scalar("select event from evented_outbox").fetch_all(&pool).await.unwrap();
    assert_eq!(left, ["relaying.removed"]);
    app.stop().await;
}

/// What the pool's connections say of columns' names is no matter of ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_is_relayed_whose_pool_names_columns_by_their_tables() {
    let (place, seen) = (Place::new(), Seen::default());
    place.pool().await.close().await;
    let options = SqliteConnectOptions::new().filename(place.path("shop.db"));
    let options = options.pragma("full_column_names", "on").pragma("short_column_names", "off");
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let app = run(&place.queue(), &pool, &seen).await.unwrap();
    pay(&app, &pool, 0..3).await;
    eventually("all run", async || ["book", "follow", "mail"].iter().all(|who| noted(&seen, who).len() == 3)).await;
    app.stop().await;
}

/// The queue's file was deleted between two runs, or is looked for in another folder.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_whose_queue_has_no_file_says_so_and_makes_none() {
    let (place, seen) = (Place::new(), Seen::default());
    let pool = place.pool().await;
    run(&place.queue(), &pool, &seen).await.unwrap().stop().await;
    let file = place.path("evented.db");
    std::fs::remove_file(&file).unwrap();
    let refused = run(&place.queue(), &pool, &seen).await.unwrap_err().to_string();
    assert!(refused.contains("there is no file at `sqlite:") && refused.contains("evented::adopt(outbox"), "{refused}");
    assert!(!file.exists());
    evented::adopt(&format!("sqlite:{}", place.path("shop.db").display()), &place.queue()).await.unwrap();
    let app = run(&place.queue(), &pool, &seen).await.unwrap();
    scan(&app, &pool, 0..1, 10).await;
    eventually("it goes to the new one", async || seen.count("print 0") == 1).await;
    app.stop().await;
}
