//! What all processes know of each other: their handlers.

use std::{collections::HashSet, sync::Arc};

use sqlx::{Error as SqlxError, Row as _, postgres::PgRow};

use crate::{
    id,
    retry::Policy,
    store::{CatalogueEntry, CatalogueState, Identity, Record, Route, Swap, number_of},
    time,
};

use super::{
    link::{Running, Session},
    schema,
    sql::{self, backoff, backoff_columns},
};

/// The generation, and the clock; no generation is 0, where the row is gone.
pub(super) async fn generation(session: &mut Session) -> Result<(u64, i64), SqlxError> {
    let row = session
        .sql(concat!("select coalesce((select catalogue from evented_schema), 0), ", sql::now_ms!()))
        .fetch_one(&mut session.conn)
        .await?;
    Ok((row.try_get::<i64, _>(0)?.cast_unsigned(), row.try_get(1)?))
}

/// Holds the catalogue as it was read; answers whether it is that still. One at a time: processes that start together record the
/// same handlers, perhaps in different orders.
async fn is_still(session: &mut Session, generation: u64) -> Result<bool, SqlxError> {
    let row = session.sql("select catalogue from evented_schema for update").fetch_optional(&mut session.conn).await?;
    Ok(row.map(|row| row.try_get::<i64, _>(0)).transpose()? == Some(generation.cast_signed()))
}

/// Records handlers; answers whether that changed anything. The generation moves only then, so that a restart of the same
/// code makes nobody plan again.
pub(super) async fn record(session: &mut Session, record: &Record) -> Result<Swap<bool>, SqlxError> {
    if !is_still(session, record.generation).await? {
        return Ok(Swap::Moved);
    }
    let numbers = session.sql("select num from evented_handlers").fetch_all(&mut session.conn).await?;
    let mut taken = numbers.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<i32>, _>>()?;
    let mut changed = 0;
    for entry in record.handlers.iter() {
        let (backoff_first, backoff_max) = backoff_columns(entry.policy.backoff);
        let written = session
            .sql(
                "insert into evented_handlers as h (num, id, event, route, queue, attempts_max, backoff_first_ms,
                    backoff_max_ms, timeout_ms, aliases, event_aliases, unique_key, unique_ms, ordered_by)
                 overriding system value
                 values ($15, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
                 on conflict (id) do update set event = excluded.event, route = excluded.route, queue = excluded.queue,
                    attempts_max = excluded.attempts_max, backoff_first_ms = excluded.backoff_first_ms,
                    backoff_max_ms = excluded.backoff_max_ms, timeout_ms = excluded.timeout_ms,
                    aliases = excluded.aliases, event_aliases = excluded.event_aliases,
                    unique_key = excluded.unique_key, unique_ms = excluded.unique_ms, ordered_by = excluded.ordered_by,
                    retired = false, retired_at = null
                 where case when h.retired then coalesce(h.retired_at, 0) < $14 else
                    (h.event, h.route, h.queue, h.attempts_max, h.backoff_first_ms, h.backoff_max_ms,
                        h.timeout_ms, h.aliases, h.event_aliases, h.unique_key, h.unique_ms, h.ordered_by)
                    is distinct from (excluded.event, excluded.route, excluded.queue, excluded.attempts_max,
                        excluded.backoff_first_ms, excluded.backoff_max_ms, excluded.timeout_ms, excluded.aliases,
                        excluded.event_aliases, excluded.unique_key, excluded.unique_ms, excluded.ordered_by) end",
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
            .bind(record.began.0)
            .bind(number_of(&entry.handler, &mut taken))
            .execute(&mut session.conn)
            .await?;
        changed += written.rows_affected();
    }
    if changed > 0 {
        move_generation(session).await?;
    }
    Ok(Swap::Done(changed > 0))
}

async fn move_generation(session: &mut Session) -> Result<(), SqlxError> {
    session
        .sql("update evented_schema set catalogue = $1")
        .bind(id::new_generation().cast_signed())
        .execute(&mut session.conn)
        .await?;
    Ok(())
}

pub(super) async fn retire(session: &mut Session, handler: &str, generation: u64) -> Result<Swap<bool>, SqlxError> {
    if !is_still(session, generation).await? {
        return Ok(Swap::Moved);
    }
    // With its earlier names, which would otherwise be handlers again.
    let retired = session
        .sql(concat!(
            "update evented_handlers set retired = true, retired_at = ",
            sql::now_ms!(),
            " where not retired
                and (id = $1 or id = any((select h.aliases from evented_handlers h where h.id = $1)::text[]))"
        ))
        .bind(handler)
        .execute(&mut session.conn)
        .await?
        .rows_affected()
        > 0;
    if retired {
        move_generation(session).await?;
    }
    Ok(Swap::Done(retired))
}

/// The catalogue, and what else is known of the store.
pub(super) struct Known {
    pub state: CatalogueState,
    pub identity: Identity,
    pub channel: String,
    /// The store had lost what evented presumes.
    pub made_whole: bool,
}

/// As a piece of work: reads all, and makes the store whole first, as the one that is `known` here.
pub(super) fn read_all<'a>(session: &'a mut Session, known: &'a Identity) -> Running<'a, Known> {
    Box::pin(async move {
        let mut identity = schema::read_identity(session).await?;
        let made_whole = identity.is_none() && schema::make_whole(session, known).await?;
        if identity.is_none() {
            identity = schema::read_identity(session).await?;
        }
        let row = session.sql("select 'evented_schema'::regclass::oid::int8").fetch_one(&mut session.conn).await?;
        let channel = schema::channel(row.try_get(0)?);
        let state = read(session).await?;
        Ok(Known { state, identity: identity.ok_or(SqlxError::RowNotFound)?, channel, made_whole })
    })
}

async fn read(session: &mut Session) -> Result<CatalogueState, SqlxError> {
    // The generation is read first: a change between the two reads makes the next push plan again, never miss a handler.
    let (generation, _) = generation(session).await?;
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
