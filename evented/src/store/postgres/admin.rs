//! What a person looks at and decides: counts, paused queues, dead letters.

use std::time::Duration;

use sqlx::{Error as SqlxError, Executor as _, Row as _, postgres::PgRow};

use crate::{
    error::StoreError,
    id::{DeliveryId, EventId},
    store::{
        DeadLetter, INBOX_RETENTION, Letters, ONCE_COUNT, ONCE_RETENTION, Retention, Stats, Step, StoreTime,
        StoredCount, Swept,
    },
    time,
};

use super::{
    catalogue::route,
    counts, keys,
    link::{Link, Session},
    sql,
};

/// How many rows of a kind a sweep deletes in one step.
const SWEEP_ROWS: i64 = 5_000;

/// What waits and what runs is counted with each change. Of what is due the first thousand of a handler are looked at: those whose
/// lease has ended wait.
pub(super) async fn stats(session: &mut Session) -> Result<Stats, SqlxError> {
    let rows = session
        .sql(concat!(
            "with clock as materialized (select ",
            sql::now_ms!(),
            " as ms),
             sums as (
                select handler, sum(done)::int8 as done, sum(retried)::int8 as retried, sum(dead)::int8 as dead,
                    sum(stored)::int8 as stored, sum(running)::int8 as running
                from evented_counts group by handler
             )
             select h.id, h.event, h.route, h.queue, greatest(h.stored + coalesce(c.stored, 0), 0),
                greatest(h.running + coalesce(c.running, 0) - d.ended, 0),
                h.done + coalesce(c.done, 0), h.retried + coalesce(c.retried, 0), h.dead + coalesce(c.dead, 0),
                (select ms from clock) - d.due_at
             from evented_handlers h
             left join sums c on c.handler = h.num
             cross join lateral (
                select count(f.lease) as ended, min(f.due_at) as due_at from (
                    select d.due_at, d.lease from evented_deliveries d
                    where d.handler = h.num and d.due_at <= (select ms from clock)
                    order by d.due_at, d.seq limit 1000) f) d
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
        waiting: number(4)?.saturating_sub(running),
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

/// So many dead letters at a time are requeued or discarded.
const STEP: i64 = 1_000;

/// What a step is of: the letters that are meant, and until when they died.
pub(super) type Meant = (Letters, StoreTime);

/// Holds the dead letters of a step; answers their rows, the oldest first.
async fn rows_of(session: &mut Session, (letters, up_to): &Meant) -> Result<Vec<i64>, SqlxError> {
    let statement = match letters {
        Letters::One(id) => session
            .sql(
                "select seq from evented_dead_letters where id = $1 and died_at <= $2 order by seq limit $3 for update",
            )
            .bind(id.to_bytes()),
        Letters::Of(handler) => session
            .sql(
                "select seq from evented_dead_letters
                 where handler = (select num from evented_handlers where id = $1) and died_at <= $2
                 order by seq limit $3 for update",
            )
            .bind(handler.clone()),
    };
    let rows = statement.bind(up_to.0).bind(STEP).fetch_all(&mut session.conn).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

fn step(rows: &[i64]) -> Step {
    Step { count: rows.len() as u64, more: i64::try_from(rows.len()).is_ok_and(|count| count == STEP) }
}

/// Moves dead letters back among the deliveries. One of an order key goes behind those that wait.
pub(super) async fn requeue(session: &mut Session, meant: &Meant) -> Result<Step, SqlxError> {
    let rows = rows_of(session, meant).await?;
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
            " as ms),
             stored as (
             insert into evented_deliveries (id, event_id, handler, due_at, own_due_at, attempts_max, backoff_first_ms,
                backoff_max_ms, timeout_ms, version, emitted_at, correlation, error, payload, order_key)
             select id, event_id, handler,
                case when order_key is null then (select ms from clock) else 9223372036854775807 end,
                case when order_key is not null then (select ms from clock) end, attempts_max, backoff_first_ms,
                backoff_max_ms, timeout_ms, version, emitted_at, correlation, error, payload, order_key
             from evented_dead_letters where seq = any($1) order by seq
             on conflict (id) do nothing returning handler
             )
             insert into evented_counts (handler, done, retried, dead, stored)
             select s.handler, 0, 0, 0, count(*) from stored s group by s.handler"
        ))
        .bind(&rows)
        .execute(&mut session.conn)
        .await?;
    delete(session, &rows).await?;
    keys::let_heads_go(session, &keys).await?;
    Ok(step(&rows))
}

pub(super) async fn discard(session: &mut Session, meant: &Meant) -> Result<Step, SqlxError> {
    let rows = rows_of(session, meant).await?;
    delete(session, &rows).await?;
    Ok(step(&rows))
}

async fn delete(session: &mut Session, rows: &[i64]) -> Result<(), SqlxError> {
    session.sql("delete from evented_dead_letters where seq = any($1)").bind(rows).execute(&mut session.conn).await?;
    Ok(())
}

pub(super) async fn clock(session: &mut Session) -> Result<StoreTime, SqlxError> {
    let row = session.sql(concat!("select ", sql::now_ms!())).fetch_one(&mut session.conn).await?;
    Ok(StoreTime(row.try_get(0)?))
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

/// Marks of deliveries pushed once that are over.
const ONCE_OVER: &str = concat!(
    "delete from evented_once where id = any(array(select id from evented_once where at < ",
    sql::now_ms!(),
    " - $1 order by at limit $2 for update skip locked))"
);

const UNIQUE_OVER: &str = concat!(
    "delete from evented_unique where key = any(array(select key from evented_unique where until <= ",
    sql::now_ms!(),
    " - $1 order by until limit $2 for update skip locked))"
);

const INBOX_OVER: &str = concat!(
    "delete from evented_inbox where delivery = any(array(select delivery from evented_inbox where at < ",
    sql::now_ms!(),
    " - $1 order by at limit $2 for update skip locked))"
);

/// A session is remembered for longer than any lease.
const SESSION_KEPT: Duration = Duration::from_hours(48);

const SESSIONS_OVER: &str = concat!(
    "delete from evented_sessions where id = any(array(select id from evented_sessions where until < ",
    sql::now_ms!(),
    " - $1 order by until limit $2 for update skip locked))"
);

const LETTERS_OVER: &str = concat!(
    "delete from evented_dead_letters where seq = any(array(select seq from evented_dead_letters where died_at < ",
    sql::now_ms!(),
    " - $1 order by died_at limit $2 for update skip locked))"
);

const LETTERS_BEYOND: &str = "delete from evented_dead_letters where seq = any(array(
    select seq from evented_dead_letters
    where seq <= (select seq from evented_dead_letters order by seq desc offset $1 limit 1)
    order by seq limit $2 for update skip locked))";

/// Marks beyond the newest so many. They are counted in the index, and only where the table is larger than as many can be
/// small: a row has 60 bytes at the least.
///
/// Those that are finished stay for their two minutes: a push that is on its way may repeat them.
const ONCE_BEYOND: &str = concat!(
    "delete from evented_once where id = any(array(
    select o.id from evented_once o
    where o.at > ",
    sql::now_ms!(),
    " - 604680000 and case when pg_relation_size('evented_once') >= 60 * $1::int8 then
        o.at <= (select b.at from evented_once b order by b.at desc offset $1 limit 1) else false end
    order by o.at limit $2 for update skip locked))"
);

/// Of more deliveries the counters are left as they are.
const RECOUNTED_MAX: i64 = 10_000;

/// Counts the deliveries again, where these are few enough to be read. Who changes deliveries and counts nothing, as a process of
/// the release before and a person do, leaves the counters wrong for ever otherwise.
///
/// What is stored and what is counted of it are read at one moment: a commit has both of a change or neither. The counts that
/// were not added up at that moment stay where they are, and are taken from what is written here. Should another process add
/// them up meanwhile, it has changed the same row, and this is given up by the server: so none is lost and none counts twice.
/// Where the counters are right, nothing is written and nobody held up.
async fn recount(session: &mut Session) -> Result<u64, SqlxError> {
    session.conn.execute("set transaction isolation level repeatable read").await?;
    let wrong = session
        .sql(
            "with few as materialized (
                select count(*) <= $1 as are from (select from evented_deliveries d order by d.handler limit $1 + 1) d
             ),
             counted as materialized (
                select d.handler, count(*) as stored, count(d.lease) as running from evented_deliveries d
                where (select are from few) group by d.handler
             ),
             pending as materialized (
                select c.handler, sum(c.stored)::int8 as stored, sum(c.running)::int8 as running from evented_counts c
                where (select are from few) group by c.handler
             ),
             actual as materialized (
                select h.num, coalesce(c.stored, 0) - coalesce(p.stored, 0) as stored,
                    coalesce(c.running, 0) - coalesce(p.running, 0) as running
                from evented_handlers h
                left join counted c on c.handler = h.num left join pending p on p.handler = h.num
                where (select are from few) order by h.num
             )
             update evented_handlers h set stored = a.stored, running = a.running from actual a
             where h.num = a.num and (h.stored, h.running) is distinct from (a.stored, a.running)",
        )
        .bind(RECOUNTED_MAX)
        .execute(&mut session.conn)
        .await?;
    Ok(wrong.rows_affected())
}

/// One step of each, past what another process deletes at the same time.
pub(super) async fn sweep(link: &Link, retention: Retention) -> Result<Swept, StoreError> {
    let mut more = link.run(&(), |session, ()| Box::pin(counts::add_up(session))).await?;
    let mut step = async |text: &'static str, value: i64| {
        let deleted = link
            .run(&(text, value), |session, (text, value)| {
                Box::pin(async move {
                    let statement = session.sql(text).bind(*value).bind(SWEEP_ROWS);
                    Ok(statement.execute(&mut session.conn).await?.rows_affected())
                })
            })
            .await?;
        more |= deleted >= SWEEP_ROWS.cast_unsigned();
        Ok::<_, StoreError>(deleted)
    };
    let over = step(ONCE_OVER, time::millis(ONCE_RETENTION)).await?;
    // Only what is left when the rest is gone is forgotten early.
    let is_last = over < SWEEP_ROWS.cast_unsigned();
    let forgotten_early = if is_last { step(ONCE_BEYOND, ONCE_COUNT.cast_signed()).await? } else { 0 };
    step(UNIQUE_OVER, 0).await?;
    step(INBOX_OVER, time::millis(INBOX_RETENTION)).await?;
    step(SESSIONS_OVER, time::millis(SESSION_KEPT)).await?;
    let age = time::millis(retention.age).min(i64::MAX / 4);
    let count = i64::try_from(retention.count).unwrap_or(i64::MAX);
    let dead_letters = step(LETTERS_OVER, age).await? + step(LETTERS_BEYOND, count).await?;
    if !more {
        link.transact(&(), |session, ()| Box::pin(keys::let_lost_heads_go(session))).await?;
        let recounted = link.transact(&(), |session, ()| Box::pin(recount(session))).await;
        match recounted {
            Ok(0) => {}
            Ok(handlers) => tracing::debug!(handlers, "deliveries had been changed and not counted"),
            // Others count at the same time, or it takes too long: the next sweep comes soon enough.
            Err(error) if error.is_transient() => {
                tracing::debug!(error = %crate::error::in_one_line(&error), "deliveries were not counted again");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Swept { dead_letters, forgotten_early, more })
}
