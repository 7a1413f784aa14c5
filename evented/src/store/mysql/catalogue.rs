//! What all processes know of each other: their handlers.

use std::sync::Arc;

use sqlx::{Error as SqlxError, MySqlConnection, Row as _, mysql::MySqlRow};

use crate::{
    error::StoreError,
    retry::Policy,
    store::{CatalogueEntry, CatalogueState, Route},
    time,
};

use super::{
    link::{Link, Running, sql},
    sql::{backoff, backoff_columns, count},
};

pub(super) async fn generation(conn: &mut MySqlConnection) -> Result<u64, SqlxError> {
    let row = sql("select catalogue from evented_schema").fetch_one(conn).await?;
    Ok(row.try_get::<i64, _>(0)?.cast_unsigned())
}

/// Records handlers; answers whether that changed anything. The generation moves only then, so that a restart of the same
/// code makes nobody plan again, and most starts read alone.
pub(super) async fn record(link: &Link, handlers: &[CatalogueEntry]) -> Result<bool, StoreError> {
    let known = link.run(&(), read_all).await?.handlers;
    if handlers.iter().all(|entry| known.contains(entry)) {
        return Ok(false);
    }
    link.transact(&handlers, |conn, handlers| Box::pin(write(conn, handlers))).await
}

async fn write(conn: &mut MySqlConnection, handlers: &[CatalogueEntry]) -> Result<bool, SqlxError> {
    // One at a time: processes that start together record the same handlers, perhaps in different orders.
    sql("select catalogue from evented_schema for update").execute(&mut *conn).await?;
    let known = read(conn).await?.handlers;
    let mut changed = false;
    for entry in handlers.iter().filter(|entry| !known.contains(entry)) {
        changed = true;
        let (backoff_first, backoff_max) = backoff_columns(entry.policy.backoff);
        sql("insert into evented_handlers (id, event, route, queue, attempts_max, backoff_first_ms, backoff_max_ms,
                timeout_ms, aliases, event_aliases, unique_key, unique_ms, ordered_by)
             values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             on duplicate key update event = values(event), route = values(route), queue = values(queue),
                attempts_max = values(attempts_max), backoff_first_ms = values(backoff_first_ms),
                backoff_max_ms = values(backoff_max_ms), timeout_ms = values(timeout_ms), aliases = values(aliases),
                event_aliases = values(event_aliases), unique_key = values(unique_key), unique_ms = values(unique_ms),
                ordered_by = values(ordered_by), retired = false")
        .bind(entry.handler.to_string())
        .bind(entry.event.clone())
        .bind(entry.route.to_string())
        .bind(entry.queue.clone())
        .bind(i64::from(entry.policy.attempts_max))
        .bind(backoff_first)
        .bind(backoff_max)
        .bind(time::millis(entry.policy.timeout))
        .bind(to_json(&entry.aliases)?)
        .bind(to_json(&entry.event_aliases)?)
        .bind(entry.unique.as_ref().map(|(key, _)| key.clone()))
        .bind(entry.unique.as_ref().map(|(_, within)| time::millis(*within)))
        .bind(entry.ordered_by.clone())
        .execute(&mut *conn)
        .await?;
    }
    if changed {
        move_generation(conn).await?;
    }
    Ok(changed)
}

async fn move_generation(conn: &mut MySqlConnection) -> Result<(), SqlxError> {
    sql("update evented_schema set catalogue = catalogue + 1").execute(conn).await?;
    Ok(())
}

pub(super) fn retire<'a>(conn: &'a mut MySqlConnection, handler: &'a String) -> Running<'a, bool> {
    Box::pin(async move {
        sql("select catalogue from evented_schema for update").execute(&mut *conn).await?;
        let state = read(conn).await?;
        // With its earlier names, which would otherwise be handlers again.
        let aliases =
            state.handlers.iter().find(|entry| *entry.handler == **handler).map(|entry| entry.aliases.clone());
        let mut retired = 0;
        for id in aliases.unwrap_or_default().into_iter().chain([handler.clone()]) {
            let retire = sql("update evented_handlers set retired = true where not retired and id = ?").bind(id);
            retired += retire.execute(&mut *conn).await?.rows_affected();
        }
        if retired > 0 {
            move_generation(conn).await?;
        }
        Ok(retired > 0)
    })
}

/// As a piece of work.
pub(super) fn read_all<'a>(conn: &'a mut MySqlConnection, (): &'a ()) -> Running<'a, CatalogueState> {
    Box::pin(read(conn))
}

async fn read(conn: &mut MySqlConnection) -> Result<CatalogueState, SqlxError> {
    // The generation is read first: a change between the two reads makes the next push plan again, never miss a handler.
    let generation = generation(conn).await?;
    let rows =
        sql("select id, event, route, queue, attempts_max, backoff_first_ms, backoff_max_ms, timeout_ms, aliases,
            event_aliases, unique_key, unique_ms, ordered_by, retired
         from evented_handlers order by id")
        .fetch_all(conn)
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

fn entry(row: &MySqlRow) -> Result<CatalogueEntry, SqlxError> {
    let unique_ms: Option<i64> = row.try_get(11)?;
    Ok(CatalogueEntry {
        handler: Arc::from(row.try_get::<&str, _>(0)?),
        event: row.try_get(1)?,
        route: route(row.try_get(2)?),
        queue: row.try_get(3)?,
        policy: Policy {
            attempts_max: count(row.try_get(4)?)?,
            backoff: backoff(row.try_get(5)?, row.try_get(6)?),
            timeout: time::from_millis(row.try_get(7)?),
        },
        aliases: from_json(row.try_get(8)?)?,
        event_aliases: from_json(row.try_get(9)?)?,
        unique: row.try_get::<Option<String>, _>(10)?.zip(unique_ms.map(time::from_millis)),
        ordered_by: row.try_get(12)?,
    })
}

fn to_json(names: &[String]) -> Result<String, SqlxError> {
    serde_json::to_string(names).map_err(|error| SqlxError::Encode(error.into()))
}

fn from_json(names: &str) -> Result<Vec<String>, SqlxError> {
    serde_json::from_str(names).map_err(SqlxError::decode)
}

pub(super) fn route(name: &str) -> Route {
    if name == "outbox" { Route::Outbox } else { Route::Background }
}
