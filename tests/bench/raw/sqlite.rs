//! The raw loop on SQLite, through the thinnest binding that needs no `unsafe`. A connection has a thread of its own.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use evented_tests::{clock, ground::sqlite_path};
use rusqlite::{Connection, Statement, Transaction, TransactionBehavior, params};

use super::{BATCH, Ids, LEASE, Worked, payload, unix_ms};

/// Due rows of the only handler, oldest first, as evented claims them; with what running them takes.
const CLAIM: &str = "update evented_deliveries set
        lease = ?1,
        due_at = ?2,
        deaths = deaths + (lease is not null and alone = 2),
        alone = lease is not null or alone > 0
     where seq in (
        select seq from evented_deliveries where handler = ?3 and due_at <= ?4 order by due_at, seq limit ?5)
     returning seq, id, event_id, version, emitted_at, failed, alone, deaths, payload";

/// One row, only while its lease is held.
const SETTLE: &str = "delete from evented_deliveries where seq = ?1 and lease = ?2";

const COUNT: &str = "update evented_handlers set done = done + ?2 where num = ?1";

const INSERT: &str = "insert into evented_deliveries (handler, id, event_id, due_at, attempts_max, backoff_first_ms,
        backoff_max_ms, timeout_ms, version, emitted_at, correlation, payload)
     values (?1, ?2, ?3, ?4, 10, 1000, 600000, 60000, 1, ?4, null, ?5) on conflict (id) do nothing";

fn open(url: &str) -> anyhow::Result<Connection> {
    let conn = Connection::open(sqlite_path(url))?;
    conn.busy_timeout(Duration::from_secs(30))?;
    conn.pragma_update(None, "synchronous", "full")?;
    let mode: String = conn.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    ensure!(mode == "wal", "the file is in journal mode {mode}");
    Ok(conn)
}

fn handler(conn: &Connection) -> anyhow::Result<i64> {
    conn.query_row("select num from evented_handlers", (), |row| row.get(0)).context("there is one handler")
}

pub async fn drain(url: &str, connections: usize, merged: bool) -> anyhow::Result<Worked> {
    let url = url.to_owned();
    tokio::task::spawn_blocking(move || {
        let began = clock::now();
        let url = &url;
        let drained: Vec<anyhow::Result<(u64, u64)>> = thread::scope(|scope| {
            let threads = (0..connections).map(|number| scope.spawn(move || drain_on(url, number, merged)));
            let threads: Vec<_> = threads.collect();
            threads.into_iter().map(|thread| thread.join().expect("a raw loop does not panic")).collect()
        });
        let took = clock::since(began);
        let mut worked = Worked { deliveries: 0, payload_bytes: 0, took };
        for drained in drained {
            let (deliveries, payload_bytes) = drained?;
            worked.deliveries += deliveries;
            worked.payload_bytes += payload_bytes;
        }
        let sql = "select (select count(*) from evented_deliveries), (select sum(done) from evented_handlers)";
        let (left, done): (i64, i64) = open(url)?.query_row(sql, (), |row| Ok((row.get(0)?, row.get(1)?)))?;
        ensure!(
            left == 0 && u64::try_from(done)? == worked.deliveries,
            "{left} deliveries are left, {done} are counted"
        );
        Ok(worked)
    })
    .await?
}

/// The deliveries that one connection settled, and the bytes of their payloads.
fn drain_on(url: &str, number: usize, merged: bool) -> anyhow::Result<(u64, u64)> {
    let mut conn = open(url)?;
    let handler = handler(&conn)?;
    let (mut deliveries, mut payload_bytes) = (0, 0);
    let mut held: Vec<i64> = Vec::with_capacity(BATCH);
    let mut token = i64::try_from(number)? << 32;
    loop {
        let mut tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if !held.is_empty() {
            deliveries += settle(&tx, handler, token, &mut held)?;
            if !merged {
                tx.commit()?;
                tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            }
        }
        token += 1;
        payload_bytes += claim(&tx, handler, token, &mut held)?;
        tx.commit()?;
        if held.is_empty() {
            return Ok((deliveries, payload_bytes));
        }
    }
}

/// Settles what is held; answers how many leases still were.
fn settle(tx: &Transaction<'_>, handler: i64, token: i64, held: &mut Vec<i64>) -> anyhow::Result<u64> {
    let mut settle = tx.prepare_cached(SETTLE)?;
    let mut settled = 0;
    for seq in held.drain(..) {
        settled += settle.execute(params![seq, token])?;
    }
    tx.prepare_cached(COUNT)?.execute(params![handler, i64::try_from(settled)?])?;
    Ok(settled.try_into()?)
}

/// Claims a batch; answers the bytes of its payloads.
fn claim(tx: &Transaction<'_>, handler: i64, token: i64, held: &mut Vec<i64>) -> anyhow::Result<u64> {
    let (now, lease) = (unix_ms(), i64::try_from(LEASE.as_millis())?);
    let mut claim = tx.prepare_cached(CLAIM)?;
    let mut rows = claim.query(params![token, now + lease, handler, now, i64::try_from(BATCH)?])?;
    let mut payload_bytes = 0;
    while let Some(row) = rows.next()? {
        held.push(row.get(0)?);
        payload_bytes += u64::try_from(row.get_ref(8)?.as_blob()?.len())?;
    }
    Ok(payload_bytes)
}

pub async fn enqueue(url: &str, seconds: Duration) -> anyhow::Result<Worked> {
    let url = url.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut conn = open(&url)?;
        let handler = handler(&conn)?;
        let (mut ids, payload) = (Ids::new(), payload());
        let mut deliveries = 0;
        let began = clock::now();
        while clock::since(began) < seconds {
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut insert = tx.prepare_cached(INSERT)?;
                for _ in 0..BATCH {
                    deliveries += insert_one(&mut insert, handler, &mut ids, &payload)?;
                }
            }
            tx.commit()?;
        }
        let took = clock::since(began);
        Ok(Worked { deliveries, payload_bytes: deliveries * crate::load::PAYLOAD_BYTES, took })
    })
    .await?
}

fn insert_one(insert: &mut Statement<'_>, handler: i64, ids: &mut Ids, payload: &[u8]) -> anyhow::Result<u64> {
    let (id, event_id) = ids.next();
    Ok(insert.execute(params![handler, id, event_id, unix_ms(), payload])?.try_into()?)
}

/// Single inserts, each a transaction of its own.
pub struct Commits {
    url: String,
    ids: Ids,
}

impl Commits {
    pub async fn open(url: &str) -> anyhow::Result<Self> {
        Ok(Self { url: url.to_owned(), ids: Ids::new() })
    }

    pub async fn measure(&mut self, count: u32, period: Duration) -> anyhow::Result<Vec<Duration>> {
        let url = self.url.clone();
        let mut ids = std::mem::replace(&mut self.ids, Ids::new());
        let (took, ids) = tokio::task::spawn_blocking(move || {
            let conn = open(&url)?;
            let handler = handler(&conn)?;
            let payload = payload();
            let mut insert = conn.prepare(INSERT)?;
            // The first one reads the schema and the file.
            insert_one(&mut insert, handler, &mut ids, &payload)?;
            let mut next = Instant::now();
            let mut took = Vec::new();
            for _ in 0..count {
                next += period;
                thread::sleep(next.saturating_duration_since(Instant::now()));
                let began = Instant::now();
                insert_one(&mut insert, handler, &mut ids, &payload)?;
                took.push(began.elapsed());
            }
            anyhow::Ok((took, ids))
        })
        .await??;
        self.ids = ids;
        Ok(took)
    }
}
