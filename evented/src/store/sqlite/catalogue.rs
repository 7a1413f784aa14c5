//! What all processes know of each other: their handlers.

use std::{collections::HashSet, sync::Arc};

use sqlx::{Error as SqlxError, Row as _, SqliteConnection, query, query_as, query_scalar};

use crate::{
    id::new_generation,
    retry::Policy,
    store::{CatalogueEntry, CatalogueState, Record, Route, Swap, number_of},
    time,
};

use super::{
    file::File,
    push::{backoff_columns, to_json},
    queue::{backoff, generation},
    schema,
    writer::Running,
};

/// Records handlers, if the catalogue is as it was read. The generation moves only when something has changed, so that a restart
/// of the same code makes nobody plan again.
pub(super) fn record<'a>(conn: &'a mut SqliteConnection, record: &'a Record) -> Running<'a, Swap<()>> {
    Box::pin(async move {
        if generation(&mut *conn).await? != record.generation {
            return Ok(Swap::Moved);
        }
        let numbers: Vec<i32> = query_scalar("select num from evented_handlers").fetch_all(&mut *conn).await?;
        let mut taken: HashSet<i32> = numbers.into_iter().collect();
        let mut has_changed = false;
        for entry in record.handlers.iter() {
            let number = number_of(&entry.handler, &mut taken);
            has_changed |= record_one(&mut *conn, entry, number, record.began.0).await?;
        }
        if has_changed {
            move_generation(conn).await?;
        }
        Ok(Swap::Done(()))
    })
}

/// Records a handler; answers whether that changed anything. One that was retired after the process `began` stays so.
async fn record_one(
    conn: &mut SqliteConnection,
    entry: &CatalogueEntry,
    number: i32,
    began: i64,
) -> Result<bool, SqlxError> {
    let (backoff_first, backoff_max) = backoff_columns(entry.policy.backoff);
    let changed = query(
        "insert into evented_handlers (num, id, event, route, queue, attempts_max, backoff_first_ms, backoff_max_ms,
            timeout_ms, aliases, event_aliases, unique_key, unique_ms, ordered_by, retired)
         values (?15, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 0)
         on conflict (id) do update set event = excluded.event, route = excluded.route, queue = excluded.queue,
            attempts_max = excluded.attempts_max, backoff_first_ms = excluded.backoff_first_ms,
            backoff_max_ms = excluded.backoff_max_ms, timeout_ms = excluded.timeout_ms,
            aliases = excluded.aliases, event_aliases = excluded.event_aliases, unique_key = excluded.unique_key,
            unique_ms = excluded.unique_ms, ordered_by = excluded.ordered_by, retired = 0, retired_at = null
         where (not retired or ifnull(retired_at, 0) < ?14)
            and ((event, route, queue, attempts_max, backoff_first_ms, timeout_ms, aliases, event_aliases)
                    <> (excluded.event, excluded.route, excluded.queue, excluded.attempts_max,
                        excluded.backoff_first_ms, excluded.timeout_ms, excluded.aliases, excluded.event_aliases)
                or backoff_max_ms is not excluded.backoff_max_ms or unique_key is not excluded.unique_key
                or unique_ms is not excluded.unique_ms or ordered_by is not excluded.ordered_by or retired)",
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
    .bind(began)
    .bind(number)
    .execute(conn)
    .await?;
    Ok(changed.rows_affected() > 0)
}

pub(super) async fn move_generation(conn: &mut SqliteConnection) -> Result<(), SqlxError> {
    let generation = new_generation().cast_signed();
    query("update evented_schema set catalogue = ?").bind(generation).execute(conn).await?;
    Ok(())
}

/// Retires a handler, if the catalogue is as it was read; answers whether it was there.
pub(super) fn retire<'a>(
    conn: &'a mut SqliteConnection,
    (handler, read): &'a (String, u64),
) -> Running<'a, Swap<bool>> {
    Box::pin(async move {
        if generation(&mut *conn).await? != *read {
            return Ok(Swap::Moved);
        }
        // With its earlier names, which would otherwise be handlers again.
        let retired = query(
            "update evented_handlers set retired = 1, retired_at = ?2 where not retired and (id = ?1 or id in
                (select value from json_each((select aliases from evented_handlers where id = ?1))))",
        )
        .bind(handler)
        .bind(time::unix_ms())
        .execute(&mut *conn)
        .await?
        .rows_affected()
            > 0;
        if retired {
            move_generation(conn).await?;
        }
        Ok(Swap::Done(retired))
    })
}

/// Makes the store's own rows again that are missing. The name that this process knows of it is its name again.
pub(super) fn make_whole<'a>(conn: &'a mut SqliteConnection, file: &'a Arc<File>) -> Running<'a, ()> {
    Box::pin(async move {
        schema::make_whole(conn, file.name(), Some(&file.store())).await?;
        Ok(())
    })
}

/// The catalogue and the store's name; `None` where the row that says them is missing.
pub(super) async fn read(conn: &mut SqliteConnection) -> Result<Option<(CatalogueState, String)>, SqlxError> {
    // The generation is read first: a change between the two reads makes the next push plan again, never miss a handler.
    let own: Option<(i64, Option<String>)> =
        query_as("select catalogue, identity from evented_schema").fetch_optional(&mut *conn).await?;
    let Some((generation, Some(name))) = own else { return Ok(None) };
    let generation = generation.cast_unsigned();
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
    Ok(Some((CatalogueState { generation, handlers, retired }, name)))
}

fn from_json(names: &str) -> Result<Vec<String>, SqlxError> {
    serde_json::from_str(names).map_err(SqlxError::decode)
}

pub(super) fn route(name: &str) -> Route {
    if name == "outbox" { Route::Outbox } else { Route::Background }
}
