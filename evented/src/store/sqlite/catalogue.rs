//! What all processes know of each other: handlers, counters, dead letters.

use std::{sync::Arc, time::Duration};

use sqlx::{Error as SqlxError, Row as _, SqliteConnection, query, query_as, query_scalar};

use crate::{
    id::DeliveryId,
    retry::Policy,
    store::{CatalogueEntry, CatalogueState, DeadLetter, Route, StoredCount},
    time,
};

use super::{
    queue::{backoff, backoff_columns, event_id, generation, id_bytes, to_json},
    writer::Running,
};

/// Records handlers. The generation moves only when something has changed, so that a restart of the same code makes nobody
/// plan again.
pub(super) fn record<'a>(conn: &'a mut SqliteConnection, handlers: &'a Arc<[CatalogueEntry]>) -> Running<'a, ()> {
    Box::pin(async move {
        for entry in handlers.iter() {
            let (backoff_first, backoff_max) = backoff_columns(entry.policy.backoff);
            let changed = query(
                "insert into evented_handlers (id, event, route, queue, attempts_max, backoff_first_ms, backoff_max_ms,
                    timeout_ms, aliases, event_aliases, retired)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0)
                 on conflict (id) do update set event = excluded.event, route = excluded.route, queue = excluded.queue,
                    attempts_max = excluded.attempts_max, backoff_first_ms = excluded.backoff_first_ms,
                    backoff_max_ms = excluded.backoff_max_ms, timeout_ms = excluded.timeout_ms,
                    aliases = excluded.aliases, event_aliases = excluded.event_aliases, retired = 0
                 where (event, route, queue, attempts_max, backoff_first_ms, timeout_ms, aliases, event_aliases)
                        <> (excluded.event, excluded.route, excluded.queue, excluded.attempts_max,
                            excluded.backoff_first_ms, excluded.timeout_ms, excluded.aliases, excluded.event_aliases)
                    or backoff_max_ms is not excluded.backoff_max_ms or retired",
            )
            .bind(&*entry.handler)
            .bind(&entry.event)
            .bind(entry.route.to_string())
            .bind(&entry.queue)
            .bind(entry.policy.attempts_max)
            .bind(backoff_first)
            .bind(backoff_max)
            .bind(time::millis(entry.policy.timeout))
            .bind(to_json(&entry.aliases)?)
            .bind(to_json(&entry.event_aliases)?)
            .execute(&mut *conn)
            .await?;
            if changed.rows_affected() > 0 {
                move_generation(conn).await?;
            }
        }
        Ok(())
    })
}

async fn move_generation(conn: &mut SqliteConnection) -> Result<(), SqlxError> {
    query("update evented_schema set catalogue = catalogue + 1").execute(conn).await?;
    Ok(())
}

pub(super) fn retire<'a>(conn: &'a mut SqliteConnection, handler: &'a String) -> Running<'a, bool> {
    Box::pin(async move {
        // With its earlier names, which would otherwise be handlers again.
        let retired = query(
            "update evented_handlers set retired = 1 where not retired and (id = ?1 or id in
                (select value from json_each((select aliases from evented_handlers where id = ?1))))",
        )
        .bind(handler)
        .execute(&mut *conn)
        .await?
        .rows_affected()
            > 0;
        if retired {
            move_generation(conn).await?;
        }
        Ok(retired)
    })
}

pub(super) async fn read(conn: &mut SqliteConnection) -> Result<CatalogueState, SqlxError> {
    // The generation is read first: a change between the two reads makes the next push plan again, never miss a handler.
    let generation = generation(&mut *conn).await?;
    let rows = query(
        "select id, event, route, queue, attempts_max, backoff_first_ms, backoff_max_ms, timeout_ms, aliases,
            event_aliases
         from evented_handlers where not retired order by id",
    )
    .fetch_all(&mut *conn)
    .await?;
    let handlers = rows.iter().map(|row| {
        Ok(CatalogueEntry {
            handler: row.try_get::<&str, _>(0)?.into(),
            event: row.try_get(1)?,
            route: route(row.try_get(2)?),
            queue: row.try_get(3)?,
            policy: Policy {
                attempts_max: row.try_get(4)?,
                backoff: backoff(row.try_get(5)?, row.try_get(6)?),
                timeout: time::from_millis(row.try_get(7)?),
            },
            aliases: from_json(row.try_get(8)?)?,
            event_aliases: from_json(row.try_get(9)?)?,
        })
    });
    let handlers = handlers.collect::<Result<_, SqlxError>>()?;
    let retired = query_scalar("select id from evented_handlers where retired").fetch_all(conn).await?;
    Ok(CatalogueState { generation, handlers, retired })
}

fn from_json(names: &str) -> Result<Vec<String>, SqlxError> {
    serde_json::from_str(names).map_err(SqlxError::decode)
}

fn route(name: &str) -> Route {
    if name == "outbox" { Route::Outbox } else { Route::Background }
}

pub(super) async fn counts(conn: &mut SqliteConnection) -> Result<Vec<StoredCount>, SqlxError> {
    type Row = (String, String, String, i64, i64, i64, i64, i64);
    let rows: Vec<Row> = query_as(
        "select n.id, n.event, n.route, count(d.seq) - ifnull(sum(d.running), 0), ifnull(sum(d.running), 0), n.done, n.retried, n.dead
         from evented_handlers n
         left join (select seq, handler, lease is not null and due_at > ?1 as running from evented_deliveries) d
            on d.handler = n.num
         group by n.num order by n.id",
    )
    .bind(time::unix_ms())
    .fetch_all(conn)
    .await?;
    let count = |(handler, event, route_name, waiting, running, done, retried, dead): Row| {
        let [waiting, running, done, retried, dead] = [waiting, running, done, retried, dead].map(i64::cast_unsigned);
        StoredCount { handler, event, route: route(&route_name), waiting, running, done, retried, dead }
    };
    Ok(rows.into_iter().map(count).collect())
}

pub(super) async fn dead_letters(conn: &mut SqliteConnection, limit: u32) -> Result<Vec<DeadLetter>, SqlxError> {
    let rows = query(
        "select l.id, l.event_id, n.id, l.failed, l.error, l.died_at, l.payload, n.event
         from evented_dead_letters l join evented_handlers n on n.num = l.handler
         order by l.seq desc limit ?",
    )
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
            payload: row.try_get(6)?,
        })
    });
    letters.collect()
}

/// Moves a dead letter back among the deliveries.
pub(super) fn requeue<'a>(conn: &'a mut SqliteConnection, delivery: &'a DeliveryId) -> Running<'a, bool> {
    Box::pin(async move {
        let id = delivery.to_bytes().to_vec();
        query(
            "insert into evented_deliveries (id, event_id, handler, due_at, attempts_max, backoff_first_ms, backoff_max_ms,
                timeout_ms, version, emitted_at, correlation, error, payload)
             select id, event_id, handler, ?2, attempts_max, backoff_first_ms, backoff_max_ms, timeout_ms, version,
                emitted_at, correlation, error, payload
             from evented_dead_letters where id = ?1 order by seq desc limit 1
             on conflict (id) do nothing",
        )
        .bind(&id)
        .bind(time::unix_ms())
        .execute(&mut *conn)
        .await?;
        // Where a delivery of this id waits already, that one stands for it.
        let deleted = query("delete from evented_dead_letters where id = ?").bind(&id).execute(conn).await?;
        Ok(deleted.rows_affected() > 0)
    })
}

/// How long until the next outbox row is due; zero when one is.
pub(super) async fn next_row(conn: &mut SqliteConnection) -> Result<Option<Duration>, SqlxError> {
    let due_at: Option<i64> = query_scalar("select min(due_at) from evented_outbox").fetch_one(conn).await?;
    Ok(due_at.map(|due_at| time::from_millis(due_at - time::unix_ms())))
}
