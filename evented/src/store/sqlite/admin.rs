//! What a person looks at and decides: counts, paused queues, dead letters.

use std::time::Duration;

use sqlx::{Error as SqlxError, Row as _, SqliteConnection, query, query_as, query_scalar};

use crate::{
    id::{DeliveryId, any_key},
    store::{
        DeadLetter, INBOX_RETENTION, Letters, ONCE_COUNT, ONCE_FINISHED, ONCE_RETENTION, Retention, Stats, StoreTime,
        StoredCount, Swept,
    },
    time,
};

use super::{
    catalogue::route,
    counts,
    push::{bytes, release_next, to_json},
    queue::{NEVER, event_id, id_bytes, paused},
    writer::Running,
};

/// How long deliveries of other stores are remembered: longer than they are run, by a day, since clocks differ.
pub(super) const INBOX_KEPT: Duration = Duration::from_hours(INBOX_RETENTION.as_secs() / 3600 + 24);

/// How long a session is remembered that is renewed no more: longer than any lease.
const SESSION_KEPT: Duration = Duration::from_hours(48);

/// So many rows are changed in one step: they hold the lock for less than 10 ms.
const STEP: i64 = 200;
/// And so many bytes of payloads are moved.
const STEP_BYTES: i64 = 1 << 20;
/// Of so many due deliveries of each handler it is looked at whether their lease has ended.
const LOOKED_AT: i64 = 1_000;

/// The counts, from what is counted with each change. Of what counts as running, those are waiting whose lease has ended, as far
/// as they are among the first that are due.
pub(super) async fn stats(conn: &mut SqliteConnection) -> Result<Stats, SqlxError> {
    let now = time::unix_ms();
    let rows = query(
        "select n.id, n.event, n.route, n.queue, n.stored, n.running, n.done, n.retried, n.dead,
            (select count(*) from (
                select d.lease from evented_deliveries d
                where d.handler = n.num and d.due_at <= ?1 order by d.due_at limit ?2)
             where lease is not null),
            (select min(d.due_at) from evented_deliveries d where d.handler = n.num and d.due_at <= ?1)
         from evented_handlers n order by n.id",
    )
    .bind(now)
    .bind(LOOKED_AT)
    .fetch_all(&mut *conn)
    .await?;
    let count = |row: &sqlx::sqlite::SqliteRow| {
        let number = |at: usize| row.try_get::<i64, _>(at);
        let (stored, leased, ended) = (number(4)?, number(5)?, number(9)?);
        let running = (leased - ended).max(0);
        let due_at: Option<i64> = row.try_get(10)?;
        Ok(StoredCount {
            handler: row.try_get(0)?,
            event: row.try_get(1)?,
            route: route(row.try_get(2)?),
            queue: row.try_get(3)?,
            waiting: (stored - running).max(0).cast_unsigned(),
            running: running.cast_unsigned(),
            done: number(6)?.cast_unsigned(),
            retried: number(7)?.cast_unsigned(),
            dead: number(8)?.cast_unsigned(),
            due_for: due_at.map(|due_at| time::from_millis(now.saturating_sub(due_at))),
        })
    };
    let handlers = rows.iter().map(count).collect::<Result<_, SqlxError>>()?;
    Ok(Stats { handlers, paused: paused(conn).await? })
}

pub(super) fn pause<'a>(conn: &'a mut SqliteConnection, (queue, paused): &'a (String, bool)) -> Running<'a, ()> {
    Box::pin(async move {
        let sql = "insert into evented_queues (name, paused) values (?1, ?2)
             on conflict (name) do update set paused = excluded.paused";
        query(sql).bind(queue).bind(paused).execute(conn).await?;
        Ok(())
    })
}

pub(super) async fn dead_letters(
    conn: &mut SqliteConnection,
    handler: Option<&str>,
    limit: u32,
) -> Result<Vec<DeadLetter>, SqlxError> {
    let rows = query(
        "select l.id, l.event_id, n.id, l.failed, l.error, l.died_at, l.payload, n.event
         from evented_dead_letters l join evented_handlers n on n.num = l.handler
         where ?1 is null or n.id = ?1
         order by l.seq desc limit ?2",
    )
    .bind(handler)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    let letters = rows.iter().map(|row| {
        Ok(DeadLetter {
            id: DeliveryId::from_bytes(id_bytes(row.try_get(0)?)?),
            event_id: event_id(row.try_get(1)?)?,
            handler: row.try_get(2)?,
            attempts: row.try_get(3)?,
            error: row.try_get(4)?,
            died_at: time::from_unix_ms(row.try_get(5)?),
            event: row.try_get(7)?,
            payload: row.try_get::<&[u8], _>(6)?.into(),
        })
    });
    letters.collect()
}

/// Dead letters that are meant, the oldest first, as many as one step takes; and whether there may be more. Read without a
/// lock: what is done with them looks again.
pub(super) async fn some_of(
    conn: &mut SqliteConnection,
    letters: &Letters,
    up_to: StoreTime,
) -> Result<(Vec<i64>, bool), SqlxError> {
    let found: Vec<(i64, i64)> = match letters {
        Letters::One(id) => {
            let sql = "select seq, length(payload) from evented_dead_letters where id = ?1 and died_at <= ?2 limit ?3";
            query_as(sql).bind(id.to_bytes().to_vec())
        }
        Letters::Of(handler) => {
            let sql = "select seq, length(payload) from evented_dead_letters
                 where handler = (select num from evented_handlers where id = ?1) and died_at <= ?2
                 order by died_at, seq limit ?3";
            query_as(sql).bind(handler)
        }
    }
    .bind(up_to.0)
    .bind(STEP)
    .fetch_all(conn)
    .await?;
    let mut bytes = 0;
    let fit = found.iter().take_while(|(_, length)| {
        let is_first = bytes == 0;
        bytes += length + 1;
        is_first || bytes <= STEP_BYTES
    });
    let rows: Vec<i64> = fit.map(|(row, _)| *row).collect();
    let more = rows.len() < found.len() || i64::try_from(found.len()).is_ok_and(|found| found == STEP);
    Ok((rows, more))
}

/// Letters for one step, and the time at which they had died.
pub(super) type Chosen = (Vec<i64>, StoreTime);

/// Moves dead letters back among the deliveries. One of an order key goes behind those that wait.
pub(super) fn requeue<'a>(conn: &'a mut SqliteConnection, (rows, up_to): &'a Chosen) -> Running<'a, u64> {
    Box::pin(async move {
        let rows = to_json(rows)?;
        let last: Option<i64> = query_scalar("select max(seq) from evented_deliveries").fetch_one(&mut *conn).await?;
        // Where a delivery of this id waits already, that one stands for it. What has an order key waits at first.
        query(
            "insert into evented_deliveries (id, event_id, handler, due_at, own_due_at, attempts_max,
                backoff_first_ms, backoff_max_ms, timeout_ms, version, emitted_at, correlation, error, payload, order_key)
             select id, event_id, handler, iif(order_key is null, ?3, ?4), ?3,
                attempts_max, backoff_first_ms, backoff_max_ms, timeout_ms, version, emitted_at, correlation, error,
                payload, order_key
             from evented_dead_letters where seq in (select value from json_each(?1)) and died_at <= ?2
             order by seq
             on conflict (id) do nothing",
        )
        .bind(&rows)
        .bind(up_to.0)
        .bind(time::unix_ms())
        .bind(NEVER)
        .execute(&mut *conn)
        .await?;
        counts::stored_after(conn, last.unwrap_or(0)).await?;
        let keys: Vec<Vec<u8>> = query_scalar(
            "select distinct order_key from evented_dead_letters
             where seq in (select value from json_each(?1)) and died_at <= ?2 and order_key is not null",
        )
        .bind(&rows)
        .bind(up_to.0)
        .fetch_all(&mut *conn)
        .await?;
        for key in keys {
            release_next(&mut *conn, &key).await?;
        }
        delete(conn, &rows, *up_to).await
    })
}

pub(super) fn discard<'a>(conn: &'a mut SqliteConnection, (rows, up_to): &'a Chosen) -> Running<'a, u64> {
    Box::pin(async move { delete(conn, &to_json(rows)?, *up_to).await })
}

async fn delete(conn: &mut SqliteConnection, rows: &str, up_to: StoreTime) -> Result<u64, SqlxError> {
    let sql = "delete from evented_dead_letters where seq in (select value from json_each(?1)) and died_at <= ?2";
    Ok(query(sql).bind(rows).bind(up_to.0).execute(conn).await?.rows_affected())
}

/// Before when marks of pushes are more than are remembered. Read without a lock, from the index alone.
pub(super) async fn too_many_before(conn: &mut SqliteConnection) -> Result<Option<i64>, SqlxError> {
    let sql = "select at from evented_once order by at desc limit 1 offset ?";
    query_scalar(sql).bind(i64::try_from(ONCE_COUNT).unwrap_or(i64::MAX)).fetch_optional(conn).await
}

/// Deletes some of what is kept no longer. Of marks before the second the time is not over: there are too many.
pub(super) fn sweep<'a>(
    conn: &'a mut SqliteConnection,
    (retention, too_many_before): &'a (Retention, Option<i64>),
) -> Running<'a, Swept> {
    Box::pin(async move {
        let now = time::unix_ms();
        let over = now.saturating_sub(time::millis(ONCE_RETENTION));
        let mut more = false;
        let mut deleted = async |sql: &'static str, from: i64, to: i64| -> Result<u64, SqlxError> {
            let deleted = query(sql).bind(from).bind(to).bind(STEP).execute(&mut *conn).await?.rows_affected();
            more |= deleted >= STEP.cast_unsigned();
            Ok(deleted)
        };
        let once = "delete from evented_once where id in
            (select id from evented_once where at >= ?1 and at < ?2 order by at limit ?3)";
        deleted(once, i64::MIN, over).await?;
        // Those that are finished are forgotten soon by themselves, and until then they are what a late push meets.
        let unfinished = over + time::millis(ONCE_FINISHED) + 1;
        let forgotten_early = match too_many_before {
            Some(before) => deleted(once, unfinished, *before).await?,
            None => 0,
        };
        let inbox = "delete from evented_inbox where delivery in
            (select delivery from evented_inbox where at >= ?1 and at < ?2 order by at limit ?3)";
        deleted(inbox, i64::MIN, now.saturating_sub(time::millis(INBOX_KEPT))).await?;
        let unique = "delete from evented_unique where key in
            (select key from evented_unique where until >= ?1 and until < ?2 order by until limit ?3)";
        deleted(unique, i64::MIN, now.saturating_add(1)).await?;
        let sessions = "delete from evented_sessions where id in
            (select id from evented_sessions where until >= ?1 and until < ?2 order by until limit ?3)";
        deleted(sessions, i64::MIN, now.saturating_sub(time::millis(SESSION_KEPT))).await?;
        let old = "delete from evented_dead_letters where seq in
            (select seq from evented_dead_letters where died_at >= ?1 and died_at < ?2 order by died_at limit ?3)";
        let old = deleted(old, i64::MIN, now.saturating_sub(time::millis(retention.age))).await?;
        // An order by the index alone, which is small.
        let beyond = "delete from evented_dead_letters where seq in
            (select seq from evented_dead_letters order by died_at desc, seq desc limit ?3 offset ?2) and ?1 <= 0";
        let beyond = deleted(beyond, 0, i64::try_from(retention.count).unwrap_or(i64::MAX)).await?;
        if !more {
            let_lost_heads_go(conn).await?;
            counts::recount(conn).await?;
        }
        Ok(Swept { dead_letters: old + beyond, forgotten_early, more })
    })
}

/// Of so many order keys a sweep looks whether their first delivery may go.
const KEYS_LOOKED_AT: i64 = 200;

/// Lets the first delivery of an order key go where the one before it was deleted by hand. Each time some keys are looked at, from
/// any of them on and round.
async fn let_lost_heads_go(conn: &mut SqliteConnection) -> Result<(), SqlxError> {
    query(
        "with recursive walk(key) as (
            select ?1
            union
            select ifnull((select min(order_key) from evented_deliveries where order_key > walk.key),
                (select min(order_key) from evented_deliveries where order_key > x''))
            from walk where walk.key is not null limit ?2
         )
         update evented_deliveries set due_at = own_due_at
         where due_at = ?3 and seq in (
            select (select min(seq) from evented_deliveries where order_key = walk.key) from walk)",
    )
    .bind(bytes(any_key().to_bytes()))
    .bind(KEYS_LOOKED_AT)
    .bind(NEVER)
    .execute(conn)
    .await?;
    Ok(())
}
