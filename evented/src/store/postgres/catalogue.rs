//! What all processes know of each other: their handlers.

use std::sync::Arc;

use sqlx::{Error as SqlxError, Row as _, postgres::PgRow};

use crate::{
    error::StoreError,
    retry::Policy,
    store::{CatalogueEntry, CatalogueState, Route},
    time,
};

use super::{
    link::{Link, Running, Session},
    sql::{backoff, backoff_columns},
};

pub(super) async fn generation(session: &mut Session) -> Result<u64, SqlxError> {
    let row = session.sql("select catalogue from evented_schema").fetch_one(&mut session.conn).await?;
    Ok(row.try_get::<i64, _>(0)?.cast_unsigned())
}

/// Records handlers; answers whether that changed anything. The generation moves only then, so that a restart of the same
/// code makes nobody plan again, and most starts read alone.
pub(super) async fn record(link: &Link, handlers: &[CatalogueEntry]) -> Result<bool, StoreError> {
    let known = link.transact(&(), read_all).await?.handlers;
    if handlers.iter().all(|entry| known.contains(entry)) {
        return Ok(false);
    }
    link.transact(&handlers, |session, handlers| Box::pin(write(session, handlers))).await
}

async fn write(session: &mut Session, handlers: &[CatalogueEntry]) -> Result<bool, SqlxError> {
    // One at a time: processes that start together record the same handlers, perhaps in different orders.
    session.sql("select catalogue from evented_schema for update").execute(&mut session.conn).await?;
    let mut changed = 0;
    for entry in handlers {
        let (backoff_first, backoff_max) = backoff_columns(entry.policy.backoff);
        let written = session
            .sql(
                "insert into evented_handlers as h (id, event, route, queue, attempts_max, backoff_first_ms,
                    backoff_max_ms, timeout_ms, aliases, event_aliases, unique_key, unique_ms, ordered_by)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
                 on conflict (id) do update set event = excluded.event, route = excluded.route, queue = excluded.queue,
                    attempts_max = excluded.attempts_max, backoff_first_ms = excluded.backoff_first_ms,
                    backoff_max_ms = excluded.backoff_max_ms, timeout_ms = excluded.timeout_ms,
                    aliases = excluded.aliases, event_aliases = excluded.event_aliases,
                    unique_key = excluded.unique_key, unique_ms = excluded.unique_ms, ordered_by = excluded.ordered_by,
                    retired = false
                 where h.retired or (h.event, h.route, h.queue, h.attempts_max, h.backoff_first_ms, h.backoff_max_ms,
                        h.timeout_ms, h.aliases, h.event_aliases, h.unique_key, h.unique_ms, h.ordered_by)
                    is distinct from (excluded.event, excluded.route, excluded.queue, excluded.attempts_max,
                        excluded.backoff_first_ms, excluded.backoff_max_ms, excluded.timeout_ms, excluded.aliases,
                        excluded.event_aliases, excluded.unique_key, excluded.unique_ms, excluded.ordered_by)",
            )
            .bind(&*entry.handler)
            .bind(&entry.event)
            .bind(entry.route.to_string())
            .bind(&entry.queue)
            .bind(entry.policy.attempts_max.cast_signed())
            .bind(backoff_first)
            .bind(backoff_max)
            .bind(time::millis(entry.policy.timeout))
            .bind(&entry.aliases)
            .bind(&entry.event_aliases)
            .bind(entry.unique.as_ref().map(|(key, _)| key))
            .bind(entry.unique.as_ref().map(|(_, within)| time::millis(*within)))
            .bind(&entry.ordered_by)
            .execute(&mut session.conn)
            .await?;
        changed += written.rows_affected();
    }
    if changed > 0 {
        move_generation(session).await?;
    }
    Ok(changed > 0)
}

async fn move_generation(session: &mut Session) -> Result<(), SqlxError> {
    session.sql("update evented_schema set catalogue = catalogue + 1").execute(&mut session.conn).await?;
    Ok(())
}

pub(super) async fn retire(session: &mut Session, handler: &str) -> Result<bool, SqlxError> {
    session.sql("select catalogue from evented_schema for update").execute(&mut session.conn).await?;
    // With its earlier names, which would otherwise be handlers again.
    let retired = session
        .sql(
            "update evented_handlers set retired = true where not retired
                and (id = $1 or id = any((select h.aliases from evented_handlers h where h.id = $1)::text[]))",
        )
        .bind(handler)
        .execute(&mut session.conn)
        .await?
        .rows_affected()
        > 0;
    if retired {
        move_generation(session).await?;
    }
    Ok(retired)
}

/// As a piece of work.
pub(super) fn read_all<'a>(session: &'a mut Session, (): &'a ()) -> Running<'a, CatalogueState> {
    Box::pin(read(session))
}

async fn read(session: &mut Session) -> Result<CatalogueState, SqlxError> {
    // The generation is read first: a change between the two reads makes the next push plan again, never miss a handler.
    let generation = generation(session).await?;
    let rows = session
        .sql(
            "select id, event, route, queue, attempts_max, backoff_first_ms, backoff_max_ms, timeout_ms, aliases,
                event_aliases, unique_key, unique_ms, ordered_by, retired
             from evented_handlers order by id",
        )
        .fetch_all(&mut session.conn)
        .await?;
    let mut state = CatalogueState { generation, ..CatalogueState::default() };
    for row in &rows {
        if row.try_get(13)? {
            state.retired.push(row.try_get(0)?);
        } else {
            state.handlers.push(entry(row)?);
        }
    }
    Ok(state)
}

fn entry(row: &PgRow) -> Result<CatalogueEntry, SqlxError> {
    let unique_ms: Option<i64> = row.try_get(11)?;
    Ok(CatalogueEntry {
        handler: Arc::from(row.try_get::<&str, _>(0)?),
        event: row.try_get(1)?,
        route: route(row.try_get(2)?),
        queue: row.try_get(3)?,
        policy: Policy {
            attempts_max: row.try_get::<i32, _>(4)?.cast_unsigned(),
            backoff: backoff(row.try_get(5)?, row.try_get(6)?),
            timeout: time::from_millis(row.try_get(7)?),
        },
        aliases: row.try_get(8)?,
        event_aliases: row.try_get(9)?,
        unique: row.try_get::<Option<String>, _>(10)?.zip(unique_ms.map(time::from_millis)),
        ordered_by: row.try_get(12)?,
    })
}

pub(super) fn route(name: &str) -> Route {
    if name == "outbox" { Route::Outbox } else { Route::Background }
}
