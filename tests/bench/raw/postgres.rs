//! The raw loop on Postgres: one statement for each batch, prepared once, by sqlx's driver.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use evented_tests::clock;
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _, query, query_as, query_scalar};
use tokio::{task::JoinSet, time::interval};

use super::{BATCH, Ids, LEASE, Worked, payload};

/// A plan is made once, and takes the indexes whatever the statistics of an empty table say.
const SESSION: &str = "set jit = off; set plan_cache_mode = force_generic_plan; set enable_seqscan = off;
    set enable_bitmapscan = off; set enable_hashjoin = off; set enable_mergejoin = off";

/// The server's clock, in milliseconds.
macro_rules! clock {
    ($beside:literal) => {
        concat!(
            "clock as materialized (select floor(extract(epoch from clock_timestamp()) * 1000)::int8 as ms",
            $beside,
            ")"
        )
    };
}

/// `$1` is the handler, `$2` the token, `$3` the lease in milliseconds, `$4` the batch.
macro_rules! claimed {
    () => {
        "picked as materialized (
            select ctid as at from evented_deliveries
            where handler = $1 and due_at <= (select ms from clock)
            order by due_at, seq limit $4 for update skip locked
        ),
        claimed as (
            update evented_deliveries d set
                lease = $2,
                due_at = (select ms from clock) + $3,
                deaths = d.deaths + (d.lease is not null and d.alone = 2)::int4,
                alone = (d.lease is not null or d.alone > 0)::int4
            from picked p where d.ctid = p.at
            returning d.id, d.event_id, d.version, d.emitted_at, d.failed, d.alone, d.deaths, d.payload
        )"
    };
}

/// The rows of these ids whose lease has this token. Counts are rows of their own, as evented keeps them.
macro_rules! settled {
    ($handler:literal, $token:literal, $ids:literal) => {
        concat!(
            "settled as (
                delete from evented_deliveries where id = any(",
            $ids,
            "::bytea[]) and lease = ",
            $token,
            " returning 1
            ),
            counted as (
                insert into evented_counts (handler, done, retried, dead)
                select ",
            $handler,
            ", count(*), 0, 0 from settled having count(*) > 0
            )"
        )
    };
}

/// A claim needs not wait for the disk: one that a crash undoes is due again.
const CLAIM: &str = concat!(
    "with ",
    clock!(", set_config('synchronous_commit', 'off', true)"),
    ", ",
    claimed!(),
    " select id, payload, event_id, version, emitted_at, failed, alone, deaths from claimed"
);

const SETTLE: &str = concat!("with ", settled!("$1::int4", "$2", "$3"), " select count(*) from settled");

/// Both in one statement: `$5` is the token of what is settled, `$6` its ids. There is always a row.
const MERGED: &str = concat!(
    "with ",
    clock!(""),
    ", ",
    settled!("$1::int4", "$5", "$6"),
    ", ",
    claimed!(),
    " select c.id, c.payload, c.event_id, c.version, c.emitted_at, c.failed, c.alone, c.deaths, s.count
      from (select count(*) from settled) s left join claimed c on true"
);

const INSERT: &str = concat!(
    "with ",
    clock!(""),
    " insert into evented_deliveries (handler, id, event_id, due_at, attempts_max, backoff_first_ms, backoff_max_ms,
        timeout_ms, version, emitted_at, payload)
     select $1, u.id, u.event_id, (select ms from clock), 10, 1000, 600000, 60000, 1, (select ms from clock), u.payload
     from unnest($2::bytea[], $3::bytea[], $4::bytea[]) u(id, event_id, payload)
     on conflict (id) do nothing"
);

async fn open(url: &str) -> anyhow::Result<(PgConnection, i32)> {
    let mut conn = PgConnection::connect(url).await?;
    conn.execute(SESSION).await?;
    let fsync: String = query_scalar("select current_setting('fsync') || current_setting('synchronous_commit')")
        .fetch_one(&mut conn)
        .await?;
    ensure!(fsync == "onon", "the server's commits are not durable");
    let handler = query_scalar("select num from evented_handlers").fetch_one(&mut conn).await;
    Ok((conn, handler.context("there is one handler")?))
}

pub async fn drain(url: &str, connections: usize, merged: bool) -> anyhow::Result<Worked> {
    let began = clock::now();
    let mut loops = JoinSet::new();
    for number in 0..connections {
        let url = url.to_owned();
        loops.spawn(async move { drain_on(&url, number, merged).await });
    }
    let drained = loops.join_all().await;
    let mut worked = Worked { deliveries: 0, payload_bytes: 0, took: clock::since(began) };
    for drained in drained {
        let (deliveries, payload_bytes) = drained?;
        worked.deliveries += deliveries;
        worked.payload_bytes += payload_bytes;
    }
    let (mut conn, _) = open(url).await?;
    // What the start and the end of evented's own instance added up is in the handler's row.
    let sql = "select (select count(*) from evented_deliveries),
            (select coalesce(sum(done), 0)::int8 from evented_counts) + (select sum(done)::int8 from evented_handlers)";
    let (left, done): (i64, i64) = query_as(sql).fetch_one(&mut conn).await?;
    ensure!(left == 0 && u64::try_from(done)? == worked.deliveries, "{left} deliveries are left, {done} are counted");
    Ok(worked)
}

/// The deliveries that one connection settled, and the bytes of their payloads.
async fn drain_on(url: &str, number: usize, merged: bool) -> anyhow::Result<(u64, u64)> {
    let (mut conn, handler) = open(url).await?;
    let (mut deliveries, mut payload_bytes) = (0, 0);
    let (batch, lease) = (i64::try_from(BATCH)?, i64::try_from(LEASE.as_millis())?);
    let mut token = i64::try_from(number)? << 32;
    let mut held: Vec<[u8; 16]> = Vec::new();
    loop {
        if !merged && !held.is_empty() {
            let settle = query_scalar(SETTLE).bind(handler).bind(token).bind(&held);
            deliveries += u64::try_from(settle.fetch_one(&mut conn).await.map(|settled: i64| settled)?)?;
            held.clear();
        }
        token += 1;
        let rows = if merged {
            let exchange = query(MERGED).bind(handler).bind(token).bind(lease).bind(batch).bind(token - 1).bind(&held);
            let rows = exchange.fetch_all(&mut conn).await?;
            deliveries += u64::try_from(rows[0].try_get::<i64, _>(8)?)?;
            held.clear();
            rows
        } else {
            query(CLAIM).bind(handler).bind(token).bind(lease).bind(batch).fetch_all(&mut conn).await?
        };
        for row in &rows {
            if let Some(id) = row.try_get(0)? {
                held.push(id);
                payload_bytes += u64::try_from(row.try_get::<&[u8], _>(1)?.len())?;
            }
        }
        if held.is_empty() {
            return Ok((deliveries, payload_bytes));
        }
    }
}

pub async fn enqueue(url: &str, seconds: Duration) -> anyhow::Result<Worked> {
    let (mut conn, handler) = open(url).await?;
    let mut ids = Ids::new();
    let mut deliveries = 0;
    let began = clock::now();
    while clock::since(began) < seconds {
        deliveries += insert(&mut conn, handler, &mut ids, BATCH).await?;
    }
    let took = clock::since(began);
    Ok(Worked { deliveries, payload_bytes: deliveries * crate::load::PAYLOAD_BYTES, took })
}

async fn insert(conn: &mut PgConnection, handler: i32, ids: &mut Ids, rows: usize) -> anyhow::Result<u64> {
    let (deliveries, events): (Vec<_>, Vec<_>) = (0..rows).map(|_| ids.next()).unzip();
    let payloads = vec![payload(); rows];
    let insert = query(INSERT).bind(handler).bind(deliveries).bind(events).bind(payloads);
    Ok(insert.execute(conn).await?.rows_affected())
}

/// Single inserts, each a transaction of its own.
pub struct Commits {
    conn: PgConnection,
    handler: i32,
    ids: Ids,
}

impl Commits {
    pub async fn open(url: &str) -> anyhow::Result<Self> {
        let (conn, handler) = open(url).await?;
        let mut commits = Self { conn, handler, ids: Ids::new() };
        // The first one prepares the statement.
        insert(&mut commits.conn, handler, &mut commits.ids, 1).await?;
        Ok(commits)
    }

    pub async fn measure(&mut self, count: u32, period: Duration) -> anyhow::Result<Vec<Duration>> {
        let mut ticks = interval(period);
        let mut took = Vec::new();
        for _ in 0..count {
            ticks.tick().await;
            let began = Instant::now();
            insert(&mut self.conn, self.handler, &mut self.ids, 1).await?;
            took.push(began.elapsed());
        }
        Ok(took)
    }
}
