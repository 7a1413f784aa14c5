//! What a person looks at and decides: counts, paused queues, dead letters.

use std::time::Duration;

use sqlx::{Error as SqlxError, Row as _, SqliteConnection, query, query_scalar};

use crate::{
    id::DeliveryId,
    store::{DeadLetter, INBOX_RETENTION, Letters, ONCE_RETENTION, Retention, Stats, StoredCount, Swept},
    time,
};

use super::{
    catalogue::route,
    queue::{NEVER, event_id, id_bytes, paused},
    writer::Running,
};

pub(super) async fn stats(conn: &mut SqliteConnection) -> Result<Stats, SqlxError> {
    let now = time::unix_ms();
    let rows = query(
        "select n.id, n.event, n.route, n.queue, count(d.seq), ifnull(sum(d.lease is not null and d.due_at > ?1), 0),
            n.done, n.retried, n.dead, min(iif(d.due_at <= ?1, d.due_at, null))
         from evented_handlers n left join evented_deliveries d on d.handler = n.num
         group by n.num order by n.id",
    )
    .bind(now)
    .fetch_all(&mut *conn)
    .await?;
    let count = |row: &sqlx::sqlite::SqliteRow| {
        let number = |at: usize| row.try_get::<i64, _>(at).map(i64::cast_unsigned);
        let running = number(5)?;
        let due_at: Option<i64> = row.try_get(9)?;
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

/// The rows of dead letters that are meant, the oldest first.
async fn rows_of(conn: &mut SqliteConnection, letters: &Letters) -> Result<Vec<i64>, SqlxError> {
    match letters {
        Letters::One(id) => {
            let sql = "select seq from evented_dead_letters where id = ? order by seq";
            query_scalar(sql).bind(id.to_bytes().to_vec()).fetch_all(conn).await
        }
        Letters::Of(handler) => {
            let sql = "select seq from evented_dead_letters
                 where handler = (select num from evented_handlers where id = ?) order by seq";
            query_scalar(sql).bind(handler).fetch_all(conn).await
        }
    }
}

/// Moves dead letters back among the deliveries. One of an order key goes behind those that wait.
pub(super) fn requeue<'a>(conn: &'a mut SqliteConnection, letters: &'a Letters) -> Running<'a, u64> {
    Box::pin(async move {
        let rows = rows_of(conn, letters).await?;
        for row in &rows {
            // Where a delivery of this id waits already, that one stands for it.
            query(
                "insert into evented_deliveries (id, event_id, handler, due_at, own_due_at, attempts_max,
                    backoff_first_ms, backoff_max_ms, timeout_ms, version, emitted_at, correlation, error, payload, order_key)
                 select id, event_id, handler,
                    iif(exists (select 1 from evented_deliveries d where d.order_key = l.order_key), ?3, ?2), ?2,
                    attempts_max, backoff_first_ms, backoff_max_ms, timeout_ms, version, emitted_at, correlation, error,
                    payload, order_key
                 from evented_dead_letters l where seq = ?1
                 on conflict (id) do nothing",
            )
            .bind(row)
            .bind(time::unix_ms())
            .bind(NEVER)
            .execute(&mut *conn)
            .await?;
            query("delete from evented_dead_letters where seq = ?").bind(row).execute(&mut *conn).await?;
        }
        Ok(rows.len() as u64)
    })
}

pub(super) fn discard<'a>(conn: &'a mut SqliteConnection, letters: &'a Letters) -> Running<'a, u64> {
    Box::pin(async move {
        let rows = rows_of(conn, letters).await?;
        for row in &rows {
            query("delete from evented_dead_letters where seq = ?").bind(row).execute(&mut *conn).await?;
        }
        Ok(rows.len() as u64)
    })
}

pub(super) fn sweep<'a>(conn: &'a mut SqliteConnection, retention: &'a Retention) -> Running<'a, Swept> {
    Box::pin(async move {
        let now = time::unix_ms();
        let once =
            query("delete from evented_once where at < ?").bind(now.saturating_sub(time::millis(ONCE_RETENTION)));
        once.execute(&mut *conn).await?;
        // Longer than deliveries are run, by a day: clocks differ.
        let inbox = query("delete from evented_inbox where at < ?");
        let kept = INBOX_RETENTION + Duration::from_hours(24);
        inbox.bind(now.saturating_sub(time::millis(kept))).execute(&mut *conn).await?;
        query("delete from evented_unique where until <= ?").bind(now).execute(&mut *conn).await?;
        let dead_letters = query(
            "delete from evented_dead_letters
             where died_at < ?1 or seq in (select seq from evented_dead_letters order by seq desc limit -1 offset ?2)",
        )
        .bind(now.saturating_sub(time::millis(retention.age)))
        .bind(i64::try_from(retention.count).unwrap_or(i64::MAX))
        .execute(conn)
        .await?;
        Ok(Swept { dead_letters: dead_letters.rows_affected(), ..Swept::default() })
    })
}
