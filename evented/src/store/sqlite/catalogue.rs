//! What all processes know of each other: their handlers.

use std::sync::Arc;

use sqlx::{Error as SqlxError, Row as _, SqliteConnection, query, query_scalar};

use crate::{
    retry::Policy,
    store::{CatalogueEntry, CatalogueState, Route},
    time,
};

use super::{
    queue::{backoff, backoff_columns, generation, to_json},
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
                    timeout_ms, aliases, event_aliases, unique_key, unique_ms, ordered_by, retired)
                 values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 0)
                 on conflict (id) do update set event = excluded.event, route = excluded.route, queue = excluded.queue,
                    attempts_max = excluded.attempts_max, backoff_first_ms = excluded.backoff_first_ms,
                    backoff_max_ms = excluded.backoff_max_ms, timeout_ms = excluded.timeout_ms,
                    aliases = excluded.aliases, event_aliases = excluded.event_aliases, unique_key = excluded.unique_key,
                    unique_ms = excluded.unique_ms, ordered_by = excluded.ordered_by, retired = 0
                 where (event, route, queue, attempts_max, backoff_first_ms, timeout_ms, aliases, event_aliases)
                        <> (excluded.event, excluded.route, excluded.queue, excluded.attempts_max,
                            excluded.backoff_first_ms, excluded.timeout_ms, excluded.aliases, excluded.event_aliases)
                    or backoff_max_ms is not excluded.backoff_max_ms or unique_key is not excluded.unique_key
                    or unique_ms is not excluded.unique_ms or ordered_by is not excluded.ordered_by or retired",
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
            .bind(entry.unique.as_ref().map(|(key, _)| key))
            .bind(entry.unique.as_ref().map(|(_, within)| time::millis(*within)))
            .bind(&entry.ordered_by)
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
            event_aliases, unique_key, unique_ms, ordered_by
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
            unique: row
                .try_get::<Option<String>, _>(10)?
                .zip(row.try_get::<Option<i64>, _>(11)?.map(time::from_millis)),
            ordered_by: row.try_get(12)?,
        })
    });
    let handlers = handlers.collect::<Result<_, SqlxError>>()?;
    let retired = query_scalar("select id from evented_handlers where retired").fetch_all(conn).await?;
    Ok(CatalogueState { generation, handlers, retired })
}

fn from_json(names: &str) -> Result<Vec<String>, SqlxError> {
    serde_json::from_str(names).map_err(SqlxError::decode)
}

pub(super) fn route(name: &str) -> Route {
    if name == "outbox" { Route::Outbox } else { Route::Background }
}
