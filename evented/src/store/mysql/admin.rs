//! What a person looks at and decides: counts, paused queues, dead letters.

use std::time::Duration;

use sqlx::{Error as SqlxError, MySqlConnection, Row as _, mysql::MySqlRow};

use crate::{
    error::StoreError,
    store::{DeadLetter, INBOX_RETENTION, Letters, ONCE_RETENTION, Retention, Stats, StoreTime, StoredCount, Swept},
    time,
};

use super::{
    catalogue::route,
    exchange, keys,
    link::{Link, Running, read, sql, write},
    sql::{NEVER, count, delivery_id, event_id, id_bytes, now_ms, numbers},
};

/// How many rows a sweep deletes in one commit: it has a time limit like all else, and must come to an end.
const SWEEP_ROWS: i64 = 10_000;

pub(super) fn clock<'a>(conn: &'a mut MySqlConnection, (): &'a ()) -> Running<'a, StoreTime> {
    Box::pin(async move {
        let row = sql(concat!("select ", now_ms!())).fetch_one(conn).await?;
        Ok(StoreTime(row.try_get(0)?))
    })
}

pub(super) fn stats<'a>(conn: &'a mut MySqlConnection, (): &'a ()) -> Running<'a, Stats> {
    Box::pin(async move {
        let rows = sql(concat!(
            "select h.id, h.event, h.route, h.queue, coalesce(d.kept, 0), cast(coalesce(d.running, 0) as signed),
                cast(h.done + coalesce(c.done, 0) as signed), cast(h.retried + coalesce(c.retried, 0) as signed),
                cast(h.dead + coalesce(c.dead, 0) as signed), ",
            now_ms!(),
            " - d.due_at
             from evented_handlers h
             left join (
                select handler, count(*) as kept, sum(lease is not null and due_at > ",
            now_ms!(),
            ") as running, min(if(due_at <= ",
            now_ms!(),
            ", due_at, null)) as due_at
                from evented_deliveries group by handler) d on d.handler = h.num
             left join (
                select handler, sum(done) as done, sum(retried) as retried, sum(dead) as dead
                from evented_counts group by handler) c on c.handler = h.num
             order by h.id"
        ))
        .fetch_all(&mut *conn)
        .await?;
        let paused = sql("select name from evented_queues where paused order by name").fetch_all(conn).await?;
        Ok(Stats {
            handlers: rows.iter().map(stored_count).collect::<Result<_, _>>()?,
            paused: paused.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?,
        })
    })
}

fn stored_count(row: &MySqlRow) -> Result<StoredCount, SqlxError> {
    let number = |at: usize| row.try_get::<i64, _>(at).map(i64::cast_unsigned);
    let running = number(5)?;
    let due_for: Option<i64> = row.try_get(9)?;
    Ok(StoredCount {
        handler: row.try_get(0)?,
        event: row.try_get(1)?,
        route: route(row.try_get(2)?),
        queue: row.try_get(3)?,
        waiting: number(4)? - running,
        running,
        done: number(6)?,
        retried: number(7)?,
        dead: number(8)?,
        due_for: due_for.map(time::from_millis),
    })
}

pub(super) fn pause<'a>(conn: &'a mut MySqlConnection, (queue, paused): &'a (String, bool)) -> Running<'a, ()> {
    Box::pin(async move {
        sql("insert into evented_queues (name, paused) values (?, ?) on duplicate key update paused = values(paused)")
            .bind(queue.clone())
            .bind(*paused)
            .execute(conn)
            .await?;
        Ok(())
    })
}

pub(super) fn dead_letters<'a>(
    conn: &'a mut MySqlConnection,
    (handler, limit): &'a (Option<String>, u32),
) -> Running<'a, Vec<DeadLetter>> {
    Box::pin(async move {
        let statement = match handler {
            None => sql("select l.id, l.event_id, h.id, l.failed, l.error, l.died_at, l.payload, h.event
                 from evented_dead_letters l join evented_handlers h on h.num = l.handler
                 order by l.seq desc limit ?"),
            Some(handler) => sql("select l.id, l.event_id, h.id, l.failed, l.error, l.died_at, l.payload, h.event
                 from evented_dead_letters l join evented_handlers h on h.num = l.handler
                 where l.handler = (select num from evented_handlers where id = ?)
                 order by l.seq desc limit ?")
            .bind(handler.clone()),
        };
        let rows = statement.bind(i64::from(*limit)).fetch_all(conn).await?;
        rows.iter().map(letter).collect()
    })
}

fn letter(row: &MySqlRow) -> Result<DeadLetter, SqlxError> {
    Ok(DeadLetter {
        id: delivery_id(row.try_get(0)?)?,
        event_id: event_id(row.try_get(1)?)?,
        handler: row.try_get(2)?,
        attempts: count(row.try_get(3)?)?,
        error: row.try_get(4)?,
        died_at: time::from_unix_ms(row.try_get(5)?),
        event: row.try_get(7)?,
        payload: row.try_get::<&[u8], _>(6)?.into(),
    })
}

/// Holds the dead letters that are meant; answers their rows, the oldest first.
async fn rows_of(conn: &mut MySqlConnection, letters: &Letters) -> Result<Vec<i64>, SqlxError> {
    let statement = match letters {
        Letters::One(id) => sql("select seq from evented_dead_letters where id = ? order by seq for update")
            .bind(id.to_bytes().to_vec()),
        Letters::Of(handler) => sql("select seq from evented_dead_letters
             where handler = (select num from evented_handlers where id = ?) order by seq for update")
        .bind(handler.clone()),
    };
    let rows = statement.fetch_all(conn).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Moves dead letters back among the deliveries. One of an order key goes behind those that wait.
pub(super) fn requeue<'a>(conn: &'a mut MySqlConnection, letters: &'a Letters) -> Running<'a, u64> {
    Box::pin(async move {
        let rows = rows_of(conn, letters).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let meant = numbers(rows.iter().copied());
        let text = format!(
            "select distinct order_key from evented_dead_letters where seq in ({meant}) and order_key is not null"
        );
        let order = read(conn, text).await?;
        let order = order.iter().map(|row| id_bytes(row.try_get(0)?)).collect::<Result<Vec<_>, _>>()?;
        keys::lock(conn, &order).await?;
        // Where a delivery of this id waits already, that one stands for it.
        let text = format!(
            concat!(
                "insert into evented_deliveries (id, event_id, handler, due_at, own_due_at, attempts_max,
                    backoff_first_ms, backoff_max_ms, timeout_ms, version, emitted_at, correlation, error, payload, order_key)
                 select l.id, l.event_id, l.handler, if(l.order_key is null, ",
                now_ms!(),
                ", {}), if(l.order_key is null, null, ",
                now_ms!(),
                "), l.attempts_max, l.backoff_first_ms, l.backoff_max_ms, l.timeout_ms, l.version, l.emitted_at,
                    l.correlation, l.error, l.payload, l.order_key
                 from evented_dead_letters l where l.seq in ({}) order by l.seq
                 on duplicate key update evented_deliveries.id = values(id)"
            ),
            NEVER, meant
        );
        write(conn, text).await?;
        write(conn, format!("delete from evented_dead_letters where seq in ({meant})")).await?;
        keys::let_heads_go(conn, &order).await?;
        Ok(rows.len() as u64)
    })
}

pub(super) fn discard<'a>(conn: &'a mut MySqlConnection, letters: &'a Letters) -> Running<'a, u64> {
    Box::pin(async move {
        let rows = rows_of(conn, letters).await?;
        let text = format!("delete from evented_dead_letters where seq in ({})", numbers(rows.iter().copied()));
        write(conn, text).await?;
        Ok(rows.len() as u64)
    })
}

/// Deletes what is kept no longer, in small commits.
pub(super) async fn sweep(link: &Link, retention: Retention) -> Result<Swept, StoreError> {
    link.transact(&(), exchange::add_up).await?;
    let once = concat!("delete from evented_once where at < ", now_ms!(), " - ? limit ?");
    sweep_all(link, once, time::millis(ONCE_RETENTION)).await?;
    // Longer than deliveries are run, by a day: clocks differ.
    let inbox = concat!("delete from evented_inbox where at < ", now_ms!(), " - ? limit ?");
    sweep_all(link, inbox, time::millis(INBOX_RETENTION + Duration::from_hours(24))).await?;
    let unique = concat!("delete from evented_unique where until_ms <= ", now_ms!(), " - ? limit ?");
    sweep_all(link, unique, 0).await?;
    let old = concat!("delete from evented_dead_letters where died_at < ", now_ms!(), " - ? order by died_at limit ?");
    let beyond = "delete from evented_dead_letters where seq <= (select seq from (
            select seq from evented_dead_letters order by seq desc limit 1 offset ?) last)
        order by seq limit ?";
    let age = time::millis(retention.age).min(i64::MAX / 4);
    let count = i64::try_from(retention.count).unwrap_or(i64::MAX);
    let dead_letters = sweep_all(link, old, age).await? + sweep_all(link, beyond, count).await?;
    Ok(Swept { dead_letters, ..Swept::default() })
}

async fn sweep_all(link: &Link, text: &'static str, value: i64) -> Result<u64, StoreError> {
    let mut swept = 0;
    loop {
        let deleted = link
            .run(&(text, value), |conn, (text, value)| {
                Box::pin(async move {
                    let statement = sql(text).bind(*value).bind(SWEEP_ROWS);
                    Ok(statement.execute(conn).await?.rows_affected())
                })
            })
            .await?;
        swept += deleted;
        if deleted < SWEEP_ROWS.cast_unsigned() {
            return Ok(swept);
        }
    }
}
