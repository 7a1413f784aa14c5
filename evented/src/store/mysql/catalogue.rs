//! What all processes know of each other: their handlers.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use sqlx::{Error as SqlxError, MySqlConnection, Row as _, mysql::MySqlRow};

use crate::{
    id::new_generation,
    retry::Policy,
    store::{CatalogueEntry, CatalogueState, Record, Route, StoreTime, Swap, number_of},
    time,
};

use super::{
    identity::{self, Met, generation},
    link::{NO_SUCH_TABLE, Running, code, sql},
    sql::{backoff, backoff_columns, count, now_ms},
};

/// The generation of the catalogue, 0 where the store has lost its row; and what the server's clock says.
pub(super) async fn generation_and_now(conn: &mut MySqlConnection) -> Result<(u64, StoreTime), SqlxError> {
    let row = sql(concat!("select ", generation!(), ", ", now_ms!())).fetch_one(conn).await?;
    Ok((row.try_get::<i64, _>(0)?.cast_unsigned(), StoreTime(row.try_get(1)?)))
}

/// Holds the catalogue until the transaction ends, if it is still of this generation. One at a time: processes that start
/// together record the same handlers, perhaps in different orders.
async fn hold(conn: &mut MySqlConnection, generation: u64) -> Result<bool, SqlxError> {
    let row = sql("select catalogue from evented_schema for update").fetch_optional(conn).await?;
    Ok(row.map(|row| row.try_get::<i64, _>(0)).transpose()?.map(i64::cast_unsigned) == Some(generation))
}

/// Records handlers; answers whether that changed anything. The generation moves only then, so that a restart of the same
/// code makes nobody plan again.
pub(super) fn record<'a>(conn: &'a mut MySqlConnection, record: &'a Record) -> Running<'a, Swap<bool>> {
    Box::pin(async move {
        if !hold(conn, record.generation).await? {
            return Ok(Swap::Moved);
        }
        let (known, retired) = handlers(conn).await?;
        // What was retired after this process began stays so.
        let stays = |entry: &CatalogueEntry| retired.get(&*entry.handler).is_some_and(|at| *at >= record.began);
        let numbers = sql("select num from evented_handlers").fetch_all(&mut *conn).await?;
        let mut taken = numbers.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<i32>, _>>()?;
        let mut changed = false;
        for entry in record.handlers.iter().filter(|entry| !known.contains(entry) && !stays(entry)) {
            changed = true;
            write(conn, entry, number_of(&entry.handler, &mut taken)).await?;
        }
        if changed {
            move_generation(conn).await?;
        }
        Ok(Swap::Done(changed))
    })
}

async fn write(conn: &mut MySqlConnection, entry: &CatalogueEntry, number: i32) -> Result<(), SqlxError> {
    let (backoff_first, backoff_max) = backoff_columns(entry.policy.backoff);
    sql("insert into evented_handlers (num, id, event, route, queue, attempts_max, backoff_first_ms, backoff_max_ms,
            timeout_ms, aliases, event_aliases, unique_key, unique_ms, ordered_by)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         on duplicate key update event = values(event), route = values(route), queue = values(queue),
            attempts_max = values(attempts_max), backoff_first_ms = values(backoff_first_ms),
            backoff_max_ms = values(backoff_max_ms), timeout_ms = values(timeout_ms), aliases = values(aliases),
            event_aliases = values(event_aliases), unique_key = values(unique_key), unique_ms = values(unique_ms),
            ordered_by = values(ordered_by), retired = false, retired_at = null")
    .bind(number)
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
    .execute(conn)
    .await?;
    Ok(())
}

async fn move_generation(conn: &mut MySqlConnection) -> Result<(), SqlxError> {
    sql("update evented_schema set catalogue = ?").bind(new_generation().cast_signed()).execute(conn).await?;
    Ok(())
}

pub(super) fn retire<'a>(
    conn: &'a mut MySqlConnection,
    (handler, generation): &'a (String, u64),
) -> Running<'a, Swap<bool>> {
    Box::pin(async move {
        if !hold(conn, *generation).await? {
            return Ok(Swap::Moved);
        }
        let (known, _) = handlers(conn).await?;
        // With its earlier names, which would otherwise be handlers again.
        let aliases = known.iter().find(|entry| *entry.handler == **handler).map(|entry| entry.aliases.clone());
        let mut retired = 0;
        for id in aliases.unwrap_or_default().into_iter().chain([handler.clone()]) {
            let retire = sql(concat!(
                "update evented_handlers set retired = true, retired_at = ",
                now_ms!(),
                " where not retired and id = ?"
            ));
            retired += retire.bind(id).execute(&mut *conn).await?.rows_affected();
        }
        if retired > 0 {
            move_generation(conn).await?;
        }
        Ok(Swap::Done(retired > 0))
    })
}

/// The catalogue, and which database it is of; `None` for what has lost its row.
pub(super) fn read<'a>(
    conn: &'a mut MySqlConnection,
    (): &'a (),
) -> Running<'a, (Option<CatalogueState>, Option<Met>)> {
    Box::pin(async move {
        match read_whole(conn).await {
            Err(error) if code(&error) == Some(NO_SUCH_TABLE) => Ok((None, None)),
            read => read,
        }
    })
}

async fn read_whole(conn: &mut MySqlConnection) -> Result<(Option<CatalogueState>, Option<Met>), SqlxError> {
    let met = identity::read(conn).await?;
    // The generation is read before the handlers: a change between the two makes the next push plan again, never miss one.
    let (generation, _) = generation_and_now(conn).await?;
    let (handlers, retired) = handlers(conn).await?;
    let state = CatalogueState { generation, handlers, retired: retired.into_keys().collect() };
    Ok(((generation != 0).then_some(state), met))
}

/// All handlers, and when those were retired that were.
async fn handlers(conn: &mut MySqlConnection) -> Result<(Vec<CatalogueEntry>, BTreeMap<String, StoreTime>), SqlxError> {
    let rows =
        sql("select id, event, route, queue, attempts_max, backoff_first_ms, backoff_max_ms, timeout_ms, aliases,
            event_aliases, unique_key, unique_ms, ordered_by, retired, coalesce(retired_at, 0)
         from evented_handlers order by id")
        .fetch_all(conn)
        .await?;
    let (mut handlers, mut retired) = (Vec::new(), BTreeMap::new());
    for row in &rows {
        if row.try_get(13)? {
            retired.insert(row.try_get(0)?, StoreTime(row.try_get(14)?));
        } else {
            handlers.push(entry(row)?);
        }
    }
    Ok((handlers, retired))
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
