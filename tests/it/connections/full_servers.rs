//! The full disk of a server: what was acknowledged is there afterwards and is delivered, what failed is not, and the application
//! goes on without a restart. A server that has ended by itself is started again, as one who looks after servers does.

use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use evented::{
    ErrorKind,
    prelude::*,
    sqlx::{self, MySqlPool, PgPool, mysql::MySqlPoolOptions, postgres::PgPoolOptions, query, query_scalar, raw_sql},
};
use evented_tests::{
    Place, Seen, eventually,
    servers::{Mariadb, Postgres as PostgresServer, Redis},
};
use serde::{Deserialize, Serialize};

use super::disk::Disk;

/// Enough to fill the disk soon.
const RECEIPT_BYTES: usize = 60_000;

/// What a payment came to.
enum Paid {
    Yes,
    /// Nothing of it is there.
    No(String),
    /// Its commit was not answered: all of it is there, or nothing.
    Unknown(String),
}

type Pay = Arc<dyn Fn(i64) -> Pin<Box<dyn Future<Output = Paid> + Send>> + Send + Sync>;

/// What was answered over a full disk.
#[derive(Default)]
struct Tally {
    acknowledged: BTreeSet<i64>,
    unknown: BTreeSet<i64>,
    refused: Vec<String>,
}

impl Tally {
    /// All that was acknowledged is there, and nothing that was refused.
    fn check(&self, what: &str, found: Vec<i64>) {
        let distinct: BTreeSet<i64> = found.iter().copied().collect();
        assert_eq!(found.len(), distinct.len(), "of {what}: some are there twice");
        let lost: Vec<_> = self.acknowledged.difference(&distinct).collect();
        assert!(lost.is_empty(), "of {what}: acknowledged and lost: {lost:?}");
        let too_many: Vec<_> =
            distinct.difference(&self.acknowledged).filter(|entry| !self.unknown.contains(entry)).collect();
        assert!(too_many.is_empty(), "of {what}: refused and there: {too_many:?}");
    }
}

/// Pays from four tasks, each until it has made its payments or was refused so often.
async fn pay_all(tally: &Arc<Mutex<Tally>>, pay: &Pay, entries: std::ops::Range<i64>, refusals_max: usize) -> usize {
    let mut paying = tokio::task::JoinSet::new();
    for payer in 0..4 {
        let (tally, pay) = (Arc::clone(tally), Arc::clone(pay));
        let entries = entries.clone().filter(move |entry| entry % 4 == payer);
        paying.spawn(async move {
            let mut refused = 0;
            for entry in entries {
                let paid = pay(entry).await;
                let mut tally = tally.lock().unwrap();
                match paid {
                    Paid::Yes => assert!(tally.acknowledged.insert(entry)),
                    Paid::No(error) => tally.refused.push(error),
                    Paid::Unknown(error) => {
                        tally.unknown.insert(entry);
                        tally.refused.push(error);
                    }
                }
                refused = tally.refused.len();
                if refused >= refusals_max {
                    break;
                }
            }
            refused
        });
    }
    paying.join_all().await.into_iter().max().unwrap_or_default()
}

/// Pays before, while and after the disk is full.
async fn over_a_full_disk(disk: &Disk, pay: &Pay, revive: &mut (dyn FnMut() + Send)) -> Tally {
    let tally: Arc<Mutex<Tally>> = Arc::default();
    pay_all(&tally, pay, 0..8, 1).await;
    assert_eq!(tally.lock().unwrap().refused, [""; 0], "there is room");
    disk.fill();
    pay_all(&tally, pay, 8..2_000, 24).await;
    let refused = tally.lock().unwrap().refused.len();
    assert!(refused >= 24, "the disk was not full: {refused}");
    println!("while it was full: {:?}", tally.lock().unwrap().refused.iter().collect::<BTreeSet<_>>());
    disk.free();
    tokio::task::block_in_place(&mut *revive);
    // Connections that the server ended are found and opened again.
    let next = Mutex::new(2_000);
    eventually("payments are made again", async || {
        let entry = std::mem::replace(&mut *next.lock().unwrap(), 0).max(2_000);
        *next.lock().unwrap() = entry + 4;
        let before = tally.lock().unwrap().acknowledged.len();
        pay_all(&tally, pay, entry..entry + 4, usize::MAX).await;
        tally.lock().unwrap().acknowledged.len() == before + 4
    })
    .await;
    let before = tally.lock().unwrap().refused.len();
    pay_all(&tally, pay, 10_000..10_040, usize::MAX).await;
    let mut tally = tally.lock().unwrap();
    assert_eq!(tally.refused[before..], [""; 0], "there is room again");
    std::mem::take(&mut *tally)
}

/// An error at the commit that is not the server's own answer leaves it unknown.
fn at_commit(error: &sqlx::Error) -> Paid {
    match error {
        sqlx::Error::Io(_) => Paid::Unknown(error.to_string()),
        _ => Paid::No(error.to_string()),
    }
}

#[event(transactional)]
#[derive(Serialize, Deserialize)]
struct FullyPaid {
    entry: i64,
}

mod on_postgres {
    use super::*;

    #[handler(FullyPaid, outbox(retries = 1000, backoff(fixed = "5ms")))]
    async fn book(event: FullyPaid, tx: &mut Tx<Postgres>) -> anyhow::Result<()> {
        query("insert into booked values ($1)").bind(event.entry).execute(&mut **tx).await?;
        Ok(())
    }

    async fn pay(app: evented::App, pool: PgPool, entry: i64) -> Paid {
        let open = async {
            let mut tx = evented::begin(&pool).await?;
            let receipt = vec![7_u8; RECEIPT_BYTES];
            let paid = query("insert into paid values ($1, $2)").bind(entry).bind(receipt).execute(&mut *tx).await;
            // One that ignores what failed hears of it at the commit.
            let careless = entry % 2 == 1;
            if !careless {
                paid?;
            }
            let emitted = app.emit_in(&mut tx, FullyPaid { entry }).await;
            if !careless {
                emitted?;
            }
            anyhow::Ok(tx)
        };
        match open.await {
            Ok(tx) => tx.commit().await.map_or_else(|error| at_commit(&error), |()| Paid::Yes),
            Err(error) => Paid::No(format!("{error:#}")),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_acknowledged_over_a_full_disk_is_there_on_postgres() {
        let Some(disk) = Disk::new(160 * 1024) else { return };
        // The server's user goes through it.
        std::fs::set_permissions(disk.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let settings = [("min_wal_size", "32MB"), ("max_wal_size", "48MB"), ("wal_recycle", "off")];
        let Some(mut server) = PostgresServer::start_in(disk.path(), &settings) else { return };
        let url = server.database();
        let options = PgPoolOptions::new().max_connections(6).acquire_timeout(Duration::from_millis(500));
        let pool = options.connect(&url).await.unwrap();
        let tables = "create table paid (entry int8 not null, receipt bytea not null);
            alter table paid alter receipt set storage external; create table booked (entry int8 not null)";
        raw_sql(tables).execute(&pool).await.unwrap();
        let run = evented::run().install(false).module(module_path!()).queue(&url).outbox(pool.clone());
        let app = run.await.unwrap();
        let paying: Pay = {
            let (app, pool) = (app.clone(), pool.clone());
            Arc::new(move |entry| Box::pin(pay(app.clone(), pool.clone(), entry)))
        };
        let tally = over_a_full_disk(&disk, &paying, &mut || println!("ended: {}", server.revive())).await;
        app.until_idle().await.unwrap();
        tally.check("paid", query_scalar("select entry from paid").fetch_all(&pool).await.unwrap());
        tally.check("booked", query_scalar("select entry from booked").fetch_all(&pool).await.unwrap());
        server.kill();
    }
}

mod on_mariadb {
    use super::*;

    #[handler(FullyPaid, outbox(retries = 1000, backoff(fixed = "5ms")))]
    async fn enter(event: FullyPaid, tx: &mut Tx<MySql>) -> anyhow::Result<()> {
        query("insert into booked values (?)").bind(event.entry).execute(&mut **tx).await?;
        Ok(())
    }

    async fn pay(app: evented::App, pool: MySqlPool, entry: i64) -> Paid {
        let open = async {
            let mut tx = evented::begin(&pool).await?;
            let receipt = vec![7_u8; RECEIPT_BYTES];
            query("insert into paid values (?, ?)").bind(entry).bind(receipt).execute(&mut *tx).await?;
            app.emit_in(&mut tx, FullyPaid { entry }).await?;
            anyhow::Ok(tx)
        };
        match open.await {
            Ok(tx) => tx.commit().await.map_or_else(|error| at_commit(&error), |()| Paid::Yes),
            Err(error) => Paid::No(format!("{error:#}")),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_acknowledged_over_a_full_disk_is_there_on_mariadb() {
        let Some(disk) = Disk::new(224 * 1024) else { return };
        let Some(mut server) = Mariadb::start_in(disk.path(), &[]) else { return };
        let (place, url) = (Place::new(), server.database());
        let options = MySqlPoolOptions::new().max_connections(6).acquire_timeout(Duration::from_millis(500));
        let pool = options.connect(&url).await.unwrap();
        let tables = "create table paid (entry bigint not null primary key, receipt longblob not null);
            create table booked (entry bigint not null)";
        raw_sql(tables).execute(&pool).await.unwrap();
        let run = evented::run().install(false).module(module_path!()).queue(place.queue()).outbox(pool.clone());
        let app = run.await.unwrap();
        let paying: Pay = {
            let (app, pool) = (app.clone(), pool.clone());
            Arc::new(move |entry| Box::pin(pay(app.clone(), pool.clone(), entry)))
        };
        let tally = over_a_full_disk(&disk, &paying, &mut || println!("ended: {}", server.revive())).await;
        app.until_idle().await.unwrap();
        tally.check("paid", query_scalar("select entry from paid").fetch_all(&pool).await.unwrap());
        tally.check("booked", query_scalar("select entry from booked").fetch_all(&pool).await.unwrap());
        server.kill();
    }
}

#[event]
#[derive(Serialize, Deserialize, Clone)]
struct FullyTold {
    entry: i64,
    receipt: String,
}

mod on_redis {
    use super::*;

    #[handler(FullyTold, background)]
    async fn tell(event: FullyTold, seen: State<Seen>) {
        seen.note(event.entry.to_string());
    }

    async fn emit(app: evented::App, entry: i64) -> Paid {
        let receipt = "7".repeat(RECEIPT_BYTES);
        match app.emit(FullyTold { entry, receipt }).await {
            Ok(()) => Paid::Yes,
            Err(error) if error.kind() == ErrorKind::Unknown => Paid::Unknown(format!("{error:#}")),
            Err(error) => Paid::No(format!("{error:#}")),
        }
    }

    /// The deliveries that were told, each once: what is delivered again after a crash counts as one.
    fn told(seen: &Seen) -> Vec<i64> {
        let told: BTreeSet<i64> = seen.all().iter().map(|entry| entry.parse().unwrap()).collect();
        told.into_iter().collect()
    }

    async fn start(url: &str, seen: &Seen) -> (evented::App, Pay) {
        let run = evented::run().install(false).module(module_path!()).queue(url).state(seen.clone());
        let app = run.lease(Duration::from_secs(2)).await.unwrap();
        let paying: Pay = {
            let app = app.clone();
            Arc::new(move |entry| Box::pin(emit(app.clone(), entry)))
        };
        (app, paying)
    }

    async fn over_a_full_append_file(fsync: &str) {
        let Some(disk) = Disk::new(8 * 1024) else { return };
        let settings = [("appendonly", "yes"), ("appendfsync", fsync), ("auto-aof-rewrite-percentage", "0")];
        let Some(mut server) = Redis::start_in(disk.path(), &settings) else { return };
        let seen = Seen::default();
        let (app, paying) = start(&server.url(), &seen).await;
        let tally = over_a_full_disk(&disk, &paying, &mut || println!("ended: {}", server.revive())).await;
        app.until_idle().await.unwrap();
        tally.check("told", told(&seen));
        server.kill();
    }

    /// Redis ends by itself there, before it answers.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_acknowledged_over_a_full_disk_is_there_on_redis() {
        over_a_full_append_file("always").await;
    }

    /// Redis refuses all writes there.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_redis_refuses_over_a_full_disk_is_refused() {
        over_a_full_append_file("everysec").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_acknowledged_over_a_full_memory_is_there_on_redis() {
        let settings = [("maxmemory", "64mb"), ("maxmemory-policy", "noeviction")];
        let Some(server) = Redis::start(&settings) else { return };
        let seen = Seen::default();
        let (app, paying) = start(&server.url(), &seen).await;
        let tally: Arc<Mutex<Tally>> = Arc::default();
        pay_all(&tally, &paying, 0..40, 1).await;
        assert_eq!(tally.lock().unwrap().refused, [""; 0], "there is room");
        server.ask(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
        pay_all(&tally, &paying, 40..2_000, 24).await;
        assert!(tally.lock().unwrap().refused.len() >= 24);
        server.ask(&["CONFIG", "SET", "maxmemory", "64mb"]).unwrap();
        let before = tally.lock().unwrap().refused.len();
        pay_all(&tally, &paying, 10_000..10_040, usize::MAX).await;
        assert_eq!(tally.lock().unwrap().refused[before..], [""; 0]);
        app.until_idle().await.unwrap();
        tally.lock().unwrap().check("told", told(&seen));
    }
}
