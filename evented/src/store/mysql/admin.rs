//! What a person looks at and decides: counts, paused queues, dead letters.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use sqlx::{Error as SqlxError, MySqlConnection, Row as _, mysql::MySqlRow};

use crate::{
    error::StoreError,
    id::{DeliveryId, LeaseToken},
    store::{
        DeadLetter, Letters, ONCE_COUNT, ONCE_FINISHED, ONCE_RETENTION, Retention, Stats, Step, StoreTime, StoredCount,
        Swept,
    },
    time,
};

use super::{
    catalogue::route,
    counts::{Counted, Counts, add_up, recount_few, write_all},
    keys,
    link::{Link, Running, read, sql, write},
    outbox::INBOX_KEPT,
    push::there_already,
    sql::{NEVER, STEP, count, delivery_id, event_id, id_bytes, now_ms, numbers},
};

/// Among so many of the first due deliveries of a handler, those whose lease has ended are told as waiting.
const ENDED_LOOK: i64 = 1_000;

pub(super) fn clock<'a>(conn: &'a mut MySqlConnection, (): &'a ()) -> Running<'a, StoreTime> {
    Box::pin(async move {
        let row = sql(concat!("select ", now_ms!())).fetch_one(conn).await?;
        Ok(StoreTime(row.try_get(0)?))
    })
}

/// From the counters: what is stored is never read, but for the first that are due of handlers of which some is leased.
pub(super) fn stats<'a>(conn: &'a mut MySqlConnection, (): &'a ()) -> Running<'a, Stats> {
    Box::pin(async move {
        let rows = sql(concat!(
            "select h.id, h.event, h.route, h.queue, cast(h.num as signed),
                cast(h.kept + coalesce(c.kept, 0) as signed), cast(h.running + coalesce(c.running, 0) as signed),
                cast(h.done + coalesce(c.done, 0) as signed), cast(h.retried + coalesce(c.retried, 0) as signed),
                cast(h.dead + coalesce(c.dead, 0) as signed), ",
            now_ms!(),
            " - (select d.due_at from evented_deliveries d force index (evented_deliveries_due)
                where d.handler = h.num and d.due_at <= ",
            now_ms!(),
            " order by d.due_at limit 1)
             from evented_handlers h
             left join (
                select handler, sum(kept) as kept, sum(running) as running, sum(done) as done,
                    sum(retried) as retried, sum(dead) as dead
                from evented_counts group by handler) c on c.handler = h.num
             order by h.id"
        ))
        .fetch_all(&mut *conn)
        .await?;
        let ended = ended(conn, &rows).await?;
        let paused = sql("select name from evented_queues where paused order by name").fetch_all(conn).await?;
        Ok(Stats {
            handlers: rows.iter().map(|row| stored_count(row, &ended)).collect::<Result<_, _>>()?,
            paused: paused.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?,
        })
    })
}

/// By the handler's number: of how many among the first due deliveries the lease has ended. They run no longer.
async fn ended(conn: &mut MySqlConnection, rows: &[MySqlRow]) -> Result<HashMap<i64, i64>, SqlxError> {
    let mut asked = Vec::new();
    for row in rows {
        if row.try_get::<i64, _>(6)? > 0 && row.try_get::<Option<i64>, _>(10)?.is_some() {
            let handler: i64 = row.try_get(4)?;
            asked.push(format!(
                concat!(
                    "(select {}, cast(coalesce(sum(due.leased), 0) as signed) from (
                        select lease is not null as leased from evented_deliveries force index (evented_deliveries_due)
                        where handler = {} and due_at <= ",
                    now_ms!(),
                    " order by due_at limit {}) due)"
                ),
                handler, handler, ENDED_LOOK
            ));
        }
    }
    let mut ended = HashMap::new();
    for some in asked.chunks(50) {
        for row in read(conn, some.join(" union all ")).await? {
            ended.insert(row.try_get(0)?, row.try_get(1)?);
        }
    }
    Ok(ended)
}

fn stored_count(row: &MySqlRow, ended: &HashMap<i64, i64>) -> Result<StoredCount, SqlxError> {
    let number = |at: usize| row.try_get::<i64, _>(at).map(|number| number.max(0));
    let stored = number(5)?;
    let ended = ended.get(&row.try_get::<i64, _>(4)?).copied().unwrap_or(0);
    let running = (number(6)? - ended).clamp(0, stored);
    let due_for: Option<i64> = row.try_get(10)?;
    Ok(StoredCount {
        handler: row.try_get(0)?,
        event: row.try_get(1)?,
        route: route(row.try_get(2)?),
        queue: row.try_get(3)?,
        waiting: (stored - running).cast_unsigned(),
        running: running.cast_unsigned(),
        done: number(7)?.cast_unsigned(),
        retried: number(8)?.cast_unsigned(),
        dead: number(9)?.cast_unsigned(),
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

/// A dead letter that is meant.
struct Meant {
    row: i64,
    id: DeliveryId,
    handler: i64,
}

/// Holds dead letters that are meant, so many as a step has; the oldest first.
async fn meant(conn: &mut MySqlConnection, letters: &Letters, up_to: StoreTime) -> Result<Vec<Meant>, SqlxError> {
    let statement = match letters {
        Letters::One(id) => sql("select seq, id, cast(handler as signed) from evented_dead_letters
             where id = ? and died_at <= ? order by seq limit ? for update")
        .bind(id.to_bytes().to_vec()),
        Letters::Of(handler) => sql("select seq, id, cast(handler as signed)
             from evented_dead_letters force index (evented_dead_letters_handler)
             where handler = (select num from evented_handlers where id = ?) and died_at <= ?
             order by seq limit ? for update")
        .bind(handler.clone()),
    };
    let rows = statement.bind(up_to.0).bind(i64::try_from(STEP).unwrap_or(i64::MAX)).fetch_all(conn).await?;
    let meant = |row: &MySqlRow| {
        Ok(Meant { row: row.try_get(0)?, id: delivery_id(row.try_get(1)?)?, handler: row.try_get(2)? })
    };
    rows.iter().map(meant).collect()
}

fn step(meant: &[Meant]) -> Step {
    Step { count: meant.len() as u64, more: meant.len() >= STEP }
}

/// Moves dead letters back among the deliveries. One of an order key goes behind those that wait.
pub(super) fn requeue<'a>(
    conn: &'a mut MySqlConnection,
    (letters, up_to): &'a (Letters, StoreTime),
) -> Running<'a, Step> {
    Box::pin(async move {
        let meant = meant(conn, letters, *up_to).await?;
        if meant.is_empty() {
            return Ok(Step::default());
        }
        let all = numbers(meant.iter().map(|letter| letter.row));
        // A delivery that died twice comes back once.
        let mut ids = HashSet::new();
        let back: Vec<_> = meant.iter().filter(|letter| ids.insert(letter.id)).collect();
        let rows = numbers(back.iter().map(|letter| letter.row));
        let text = format!(
            "select distinct order_key from evented_dead_letters where seq in ({rows}) and order_key is not null"
        );
        let order = read(conn, text).await?;
        let order = order.iter().map(|row| id_bytes(row.try_get(0)?)).collect::<Result<Vec<_>, _>>()?;
        keys::lock(conn, &order).await?;
        // Where a delivery of this id waits already, that one stands for it.
        let again = LeaseToken::mint().to_i64();
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
                 on duplicate key update evented_deliveries.again = {}"
            ),
            NEVER, rows, again
        );
        let found = write(conn, text).await?;
        let mut counts = Counts::default();
        for letter in &back {
            counts.add(letter.handler, Counted::Stored, 1);
        }
        if found > back.len() as u64 {
            let _stands_for_it = there_already(conn, back.iter().map(|letter| letter.id), again, &mut counts).await?;
        }
        let mut statements = vec![format!("delete from evented_dead_letters where seq in ({all})")];
        statements.extend(counts.statements());
        write_all(conn, statements).await?;
        keys::let_heads_go(conn, &order).await?;
        Ok(step(&meant))
    })
}

pub(super) fn discard<'a>(
    conn: &'a mut MySqlConnection,
    (letters, up_to): &'a (Letters, StoreTime),
) -> Running<'a, Step> {
    Box::pin(async move {
        let meant = meant(conn, letters, *up_to).await?;
        let rows = numbers(meant.iter().map(|letter| letter.row));
        write(conn, format!("delete from evented_dead_letters where seq in ({rows})")).await?;
        Ok(step(&meant))
    })
}

/// How long a session is remembered that is renewed no more: longer than any lease.
const SESSION_KEPT: Duration = Duration::from_hours(48);

/// Deletes what is kept no longer: of each kind so much as a step has, each in a commit of its own.
pub(super) async fn sweep(link: &Link, retention: Retention) -> Result<Swept, StoreError> {
    let mut more = link.transact(&(), add_up).await?;
    link.transact_begun(&(), recount_few).await?;
    link.transact(&(), keys::let_lost_heads_go).await?;
    let mut delete = async |text: &'static str, values: Vec<i64>| {
        let deleted = link.run(&(text, values), delete).await?;
        more |= deleted >= STEP as u64;
        Ok::<_, StoreError>(deleted)
    };
    let once = concat!("delete from evented_once where at < ", now_ms!(), " - ? order by at limit ?");
    delete(once, vec![time::millis(ONCE_RETENTION)]).await?;
    let inbox = concat!("delete from evented_inbox where at < ", now_ms!(), " - ? order by at limit ?");
    delete(inbox, vec![time::millis(INBOX_KEPT)]).await?;
    let sessions =
        concat!("delete from evented_sessions where until_ms < ", now_ms!(), " - ? order by until_ms limit ?");
    delete(sessions, vec![time::millis(SESSION_KEPT)]).await?;
    let unique = concat!("delete from evented_unique where until_ms <= ", now_ms!(), " - ? order by until_ms limit ?");
    delete(unique, vec![0]).await?;
    let old = concat!("delete from evented_dead_letters where died_at < ", now_ms!(), " - ? order by died_at limit ?");
    let beyond = "delete from evented_dead_letters where seq <= (select seq from (
            select seq from evented_dead_letters order by seq desc limit 1 offset ?) last)
        order by seq limit ?";
    let age = time::millis(retention.age).min(i64::MAX / 4);
    let count = i64::try_from(retention.count).unwrap_or(i64::MAX);
    let dead_letters = delete(old, vec![age]).await? + delete(beyond, vec![count]).await?;
    let forgotten_early = link.run(&(), trim_once).await?;
    more |= forgotten_early >= STEP as u64;
    Ok(Swept { dead_letters, forgotten_early, more })
}

/// Forgets the oldest of the deliveries that were pushed once, beyond their number. Those that are finished have a time at which
/// they would be the oldest, and are spared: they go by themselves, in a while.
fn trim_once<'a>(conn: &'a mut MySqlConnection, (): &'a ()) -> Running<'a, u64> {
    Box::pin(async move {
        let last = sql("select at, id from evented_once force index (evented_once_at)
             order by at desc, id desc limit 1 offset ?")
        .bind(i64::try_from(ONCE_COUNT).unwrap_or(i64::MAX))
        .fetch_optional(&mut *conn)
        .await?;
        let Some(last) = last else { return Ok(0) };
        let (at, id): (i64, Vec<u8>) = (last.try_get(0)?, last.try_get(1)?);
        let delete = sql(concat!(
            "delete from evented_once where at > ",
            now_ms!(),
            " - ? and at <= ? and (at < ? or id <= ?) order by at, id limit ?"
        ));
        let spared = time::millis(ONCE_RETENTION.saturating_sub(ONCE_FINISHED));
        let delete = delete.bind(spared).bind(at).bind(at).bind(id).bind(i64::try_from(STEP).unwrap_or(i64::MAX));
        Ok(delete.execute(conn).await?.rows_affected())
    })
}

fn delete<'a>(conn: &'a mut MySqlConnection, (text, values): &'a (&'static str, Vec<i64>)) -> Running<'a, u64> {
    Box::pin(async move {
        let statement = values.iter().fold(sql(text), |statement, value| statement.bind(*value));
        let limit = i64::try_from(STEP).unwrap_or(i64::MAX);
        Ok(statement.bind(limit).execute(conn).await?.rows_affected())
    })
}
