//! What a person looks at and decides: counts, paused queues, dead letters.

use sqlx::{Error as SqlxError, Executor as _, Row as _, postgres::PgRow};

use crate::{
    error::StoreError,
    id::{DeliveryId, EventId},
    store::{DeadLetter, INBOX_RETENTION, Letters, ONCE_RETENTION, Retention, Stats, StoreTime, StoredCount, Swept},
    time,
};

use super::{
    catalogue::route,
    exchange, keys,
    link::{Link, Session},
    sql,
};

/// How many rows a sweep deletes in one commit: it has a time limit like all else, and must come to an end.
const SWEEP_ROWS: i64 = 10_000;

pub(super) async fn stats(session: &mut Session) -> Result<Stats, SqlxError> {
    let rows = session
        .sql(concat!(
            "with clock as materialized (select ",
            sql::now_ms!(),
            " as ms)
             select h.id, h.event, h.route, h.queue, coalesce(d.stored, 0), coalesce(d.running, 0),
                h.done + coalesce(c.done, 0), h.retried + coalesce(c.retried, 0), h.dead + coalesce(c.dead, 0),
                (select ms from clock) - d.due_at
             from evented_handlers h
             left join (
                select handler, count(*) as stored,
                    count(*) filter (where lease is not null and due_at > (select ms from clock)) as running,
                    min(due_at) filter (where due_at <= (select ms from clock)) as due_at
                from evented_deliveries group by handler) d on d.handler = h.num
             left join (
                select handler, sum(done)::int8 as done, sum(retried)::int8 as retried, sum(dead)::int8 as dead
                from evented_counts group by handler) c on c.handler = h.num
             order by h.id collate \"C\""
        ))
        .fetch_all(&mut session.conn)
        .await?;
    let paused = session
        .sql("select name from evented_queues where paused order by name collate \"C\"")
        .fetch_all(&mut session.conn)
        .await?;
    Ok(Stats {
        handlers: rows.iter().map(count).collect::<Result<_, _>>()?,
        paused: paused.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?,
    })
}

fn count(row: &PgRow) -> Result<StoredCount, SqlxError> {
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

pub(super) async fn pause(session: &mut Session, queue: &str, paused: bool) -> Result<(), SqlxError> {
    session
        .sql(
            "insert into evented_queues (name, paused) values ($1, $2)
             on conflict (name) do update set paused = excluded.paused",
        )
        .bind(queue)
        .bind(paused)
        .execute(&mut session.conn)
        .await?;
    Ok(())
}

pub(super) async fn dead_letters(
    session: &mut Session,
    handler: Option<&str>,
    limit: u32,
) -> Result<Vec<DeadLetter>, SqlxError> {
    let statement = match handler {
        None => session.sql(
            "select l.id, l.event_id, h.id, l.failed, l.error, l.died_at, l.payload, h.event
             from evented_dead_letters l join evented_handlers h on h.num = l.handler
             order by l.seq desc limit $1",
        ),
        Some(_) => session.sql(
            "select l.id, l.event_id, h.id, l.failed, l.error, l.died_at, l.payload, h.event
             from evented_dead_letters l join evented_handlers h on h.num = l.handler
             where l.handler = (select num from evented_handlers where id = $2)
             order by l.seq desc limit $1",
        ),
    };
    let statement = statement.bind(i64::from(limit));
    let statement = if let Some(handler) = handler { statement.bind(handler.to_owned()) } else { statement };
    let rows = statement.fetch_all(&mut session.conn).await?;
    rows.iter().map(letter).collect()
}

fn letter(row: &PgRow) -> Result<DeadLetter, SqlxError> {
    Ok(DeadLetter {
        id: DeliveryId::from_bytes(row.try_get(0)?),
        event_id: EventId::from_bytes(row.try_get(1)?),
        handler: row.try_get(2)?,
        attempts: row.try_get::<i32, _>(3)?.cast_unsigned(),
        error: row.try_get(4)?,
        died_at: time::from_unix_ms(row.try_get(5)?),
        event: row.try_get(7)?,
        payload: row.try_get::<&[u8], _>(6)?.into(),
    })
}

/// Deletes the dead letters that are meant, and holds their order keys; answers their rows, the oldest first.
async fn rows_of(session: &mut Session, letters: &Letters) -> Result<Vec<i64>, SqlxError> {
    let statement = match letters {
        Letters::One(id) => session
            .sql("select seq from evented_dead_letters where id = $1 order by seq for update")
            .bind(id.to_bytes()),
        Letters::Of(handler) => session
            .sql(
                "select seq from evented_dead_letters
                 where handler = (select num from evented_handlers where id = $1) order by seq for update",
            )
            .bind(handler.clone()),
    };
    let rows = statement.fetch_all(&mut session.conn).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Moves dead letters back among the deliveries. One of an order key goes behind those that wait.
pub(super) async fn requeue(session: &mut Session, letters: &Letters) -> Result<u64, SqlxError> {
    let rows = rows_of(session, letters).await?;
    let keys = session
        .sql("select distinct order_key from evented_dead_letters where seq = any($1) and order_key is not null")
        .bind(&rows)
        .fetch_all(&mut session.conn)
        .await?;
    let keys: Vec<[u8; 16]> = keys.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    keys::lock(session, &keys).await?;
    // Where a delivery of this id waits already, that one stands for it.
    session
        .sql(concat!(
            "with clock as materialized (select ",
            sql::now_ms!(),
            " as ms)
             insert into evented_deliveries (id, event_id, handler, due_at, own_due_at, attempts_max, backoff_first_ms,
                backoff_max_ms, timeout_ms, version, emitted_at, correlation, error, payload, order_key)
             select id, event_id, handler,
                case when order_key is null then (select ms from clock) else 9223372036854775807 end,
                case when order_key is not null then (select ms from clock) end, attempts_max, backoff_first_ms,
                backoff_max_ms, timeout_ms, version, emitted_at, correlation, error, payload, order_key
             from evented_dead_letters where seq = any($1) order by seq
             on conflict (id) do nothing"
        ))
        .bind(&rows)
        .execute(&mut session.conn)
        .await?;
    delete(session, &rows).await?;
    keys::let_heads_go(session, &keys).await?;
    Ok(rows.len() as u64)
}

pub(super) async fn discard(session: &mut Session, letters: &Letters) -> Result<u64, SqlxError> {
    let rows = rows_of(session, letters).await?;
    delete(session, &rows).await?;
    Ok(rows.len() as u64)
}

async fn delete(session: &mut Session, rows: &[i64]) -> Result<(), SqlxError> {
    session.sql("delete from evented_dead_letters where seq = any($1)").bind(rows).execute(&mut session.conn).await?;
    Ok(())
}

pub(super) async fn clock(session: &mut Session) -> Result<StoreTime, SqlxError> {
    let row = session.sql(concat!("select ", sql::now_ms!())).fetch_one(&mut session.conn).await?;
    Ok(StoreTime(row.try_get(0)?))
}

pub(super) async fn forget(session: &mut Session, deliveries: &[DeliveryId]) -> Result<(), SqlxError> {
    session
        .sql("delete from evented_once where id = any($1)")
        .bind(sql::sorted(deliveries.iter().map(|id| id.to_bytes())))
        .execute(&mut session.conn)
        .await?;
    Ok(())
}

/// Clears away what deleted deliveries left behind, unless another is at it. It is the server's to do in the end, so nothing
/// comes of a failure: where the tables are another user's, or it takes too long.
pub(super) async fn vacuum(link: &Link) {
    if !link.is_direct() {
        return;
    }
    let vacuuming = link.run(&(), |session, ()| {
        Box::pin(async move {
            session.conn.execute("vacuum (skip_locked, truncate off, parallel 0) evented_deliveries").await.map(drop)
        })
    });
    if let Err(error) = vacuuming.await {
        tracing::debug!(error = %crate::error::in_one_line(&error), "the deliveries' table was not vacuumed");
    }
}

/// Deletes what is kept no longer, in small commits, past what another process deletes at the same time.
pub(super) async fn sweep(link: &Link, retention: Retention) -> Result<Swept, StoreError> {
    link.run(&(), |session, ()| Box::pin(exchange::add_up(session))).await?;
    let once = concat!(
        "delete from evented_once where id = any(array(select id from evented_once where at < ",
        sql::now_ms!(),
        " - $1 limit $2 for update skip locked))"
    );
    sweep_all(link, once, time::millis(ONCE_RETENTION)).await?;
    let unique = concat!(
        "delete from evented_unique where key = any(array(select key from evented_unique where until <= ",
        sql::now_ms!(),
        " - $1 limit $2 for update skip locked))"
    );
    sweep_all(link, unique, 0).await?;
    let inbox = concat!(
        "delete from evented_inbox where delivery = any(array(select delivery from evented_inbox where at < ",
        sql::now_ms!(),
        " - $1 limit $2 for update skip locked))"
    );
    sweep_all(link, inbox, time::millis(INBOX_RETENTION)).await?;
    let old = concat!(
        "delete from evented_dead_letters where seq = any(array(select seq from evented_dead_letters where died_at < ",
        sql::now_ms!(),
        " - $1 limit $2 for update skip locked))"
    );
    let beyond = "delete from evented_dead_letters where seq = any(array(
        select seq from evented_dead_letters
        where seq <= (select seq from evented_dead_letters order by seq desc offset $1 limit 1)
        order by seq limit $2 for update skip locked))";
    let age = time::millis(retention.age).min(i64::MAX / 4);
    let count = i64::try_from(retention.count).unwrap_or(i64::MAX);
    let dead_letters = sweep_all(link, old, age).await? + sweep_all(link, beyond, count).await?;
    Ok(Swept { dead_letters, ..Swept::default() })
}

async fn sweep_all(link: &Link, text: &'static str, value: i64) -> Result<u64, StoreError> {
    let mut swept = 0;
    loop {
        let deleted = link
            .run(&(text, value), |session, (text, value)| {
                Box::pin(async move {
                    let statement = session.sql(text).bind(*value).bind(SWEEP_ROWS);
                    Ok(statement.execute(&mut session.conn).await?.rows_affected())
                })
            })
            .await?;
        swept += deleted;
        if deleted < SWEEP_ROWS.cast_unsigned() {
            return Ok(swept);
        }
    }
}
