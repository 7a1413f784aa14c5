//! A full disk: what was acknowledged is there afterwards, what failed is not, and work goes on without a restart.

use std::{
    collections::BTreeSet,
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use evented::{
    prelude::*,
    sqlx::{Connection as _, SqlitePool, query, query_scalar, sqlite::SqlitePoolOptions},
};
use evented_tests::open_pool;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// A small disk of its own.
pub struct Disk(TempDir);

impl Disk {
    /// `None` where none can be mounted, as by anybody but root.
    pub fn new(kib: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"])
            .arg(folder.path())
            .output()
            .is_ok_and(|done| done.status.success());
        if !mounted {
            let required = env::var_os("EVENTED_REQUIRE_SERVERS").is_some_and(|value| value == "1");
            assert!(!required, "a tmpfs cannot be mounted here: run as root, or unset EVENTED_REQUIRE_SERVERS");
            println!("skipped: a tmpfs cannot be mounted here");
            return None;
        }
        Some(Self(folder))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Leaves no byte.
    pub fn fill(&self) {
        let mut ballast = fs::File::options().create(true).append(true).open(self.ballast()).unwrap();
        for block in [vec![0; 64 * 1024], vec![0; 4 * 1024]] {
            while ballast.write_all(&block).is_ok() {}
        }
    }

    pub fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // At the latest with the processes that have files of it open.
        let _done = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[event(transactional)]
#[derive(Serialize, Deserialize)]
struct DiskPaid {
    entry: i64,
}

#[handler(DiskPaid, outbox(retries = 1000, backoff(fixed = "5ms")))]
async fn book(event: DiskPaid, tx: &mut Tx<Sqlite>) -> anyhow::Result<()> {
    query("insert into booked values (?)").bind(event.entry).execute(&mut **tx).await?;
    Ok(())
}

/// Enough to fill the disk soon.
const RECEIPT_BYTES: usize = 20_000;

async fn pay(app: &evented::App, pool: &SqlitePool, entry: i64) -> anyhow::Result<()> {
    let mut tx = evented::begin(pool).await?;
    let sql = "insert into paid values (?, zeroblob(?))";
    query(sql).bind(entry).bind(i64::try_from(RECEIPT_BYTES)?).execute(&mut *tx).await?;
    app.emit_in(&mut tx, DiskPaid { entry }).await?;
    tx.commit().await?;
    Ok(())
}

/// The same in a transaction that sqlx begins.
async fn pay_plainly(app: &evented::App, pool: &SqlitePool, entry: i64) -> anyhow::Result<()> {
    let mut tx = pool.begin().await?;
    let sql = "insert into paid values (?, zeroblob(?))";
    query(sql).bind(entry).bind(i64::try_from(RECEIPT_BYTES)?).execute(&mut *tx).await?;
    app.emit_in(&mut tx, DiskPaid { entry }).await?;
    tx.commit().await?;
    Ok(())
}

/// What the docs of `evented::begin` tell an application that begins transactions otherwise.
fn checked(options: SqlitePoolOptions) -> SqlitePoolOptions {
    options.after_release(|conn, _| {
        Box::pin(async move {
            // Waits for a rollback that is under way.
            conn.ping().await?;
            Ok(!conn.is_in_transaction())
        })
    })
}

/// Pays from four tasks before, while and after the disk is full.
async fn pays_over_a_full_disk(disk: &Disk, pool: SqlitePool, plainly: bool) {
    query("create table paid (entry integer not null, receipt blob not null)").execute(&pool).await.unwrap();
    query("create table booked (entry integer not null)").execute(&pool).await.unwrap();
    let run = evented::run().install(false).module(module_path!()).outbox(pool.clone());
    let app = run.queue(format!("sqlite:{}", disk.path().join("evented.db").display())).await.unwrap();
    let acknowledged: Arc<Mutex<BTreeSet<i64>>> = Arc::default();
    let pay_all = async |entries: std::ops::Range<i64>| {
        let mut paying = tokio::task::JoinSet::new();
        for payer in 0..4 {
            let (app, pool, acknowledged) = (app.clone(), pool.clone(), Arc::clone(&acknowledged));
            let entries = entries.clone().filter(move |entry| entry % 4 == payer);
            paying.spawn(async move {
                let mut refused = Vec::new();
                for entry in entries {
                    let paid =
                        if plainly { pay_plainly(&app, &pool, entry).await } else { pay(&app, &pool, entry).await };
                    match paid {
                        Ok(()) => assert!(acknowledged.lock().unwrap().insert(entry)),
                        Err(error) => refused.push(format!("{entry}: {error:#}")),
                    }
                }
                refused
            });
        }
        paying.join_all().await.concat()
    };
    assert_eq!(pay_all(0..8).await, [""; 0], "there is room");
    disk.fill();
    let refused = pay_all(8..300).await;
    assert!(refused.len() > 20, "the disk was not full: {refused:?}");
    disk.free();
    // One that was begun while it was full may still fail, and none after that.
    let refused = pay_all(300..400).await;
    assert!(refused.len() <= if plainly { 8 } else { 0 }, "there is room again: {refused:?}");
    app.until_idle().await.unwrap();
    let acknowledged: Vec<i64> = acknowledged.lock().unwrap().iter().copied().collect();
    for (table, sql) in
        [("paid", "select entry from paid order by entry"), ("booked", "select entry from booked order by entry")]
    {
        let found: Vec<i64> = query_scalar(sql).fetch_all(&pool).await.unwrap();
        assert_eq!(found, acknowledged, "of {table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_over_a_full_disk_is_there_on_sqlite() {
    let Some(disk) = Disk::new(32 * 1024) else { return };
    let pool = open_pool(disk.path().join("shop.db")).await;
    pays_over_a_full_disk(&disk, pool, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_it_is_in_transactions_of_sqlx_where_the_pool_checks_what_comes_back() {
    let Some(disk) = Disk::new(32 * 1024) else { return };
    let pool = open_pool(disk.path().join("shop.db")).await;
    let options = (*pool.connect_options()).clone();
    pool.close().await;
    let pool = checked(SqlitePoolOptions::new().max_connections(4)).connect_with(options).await.unwrap();
    pays_over_a_full_disk(&disk, pool, true).await;
}
