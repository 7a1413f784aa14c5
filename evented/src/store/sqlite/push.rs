//! Deliveries are stored.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
};

use sqlx::{
    AssertSqlSafe, Error as SqlxError, SqliteConnection, query, query_as, query_scalar, sqlite::SqliteQueryResult,
};

use crate::{
    id::{DeliveryId, Key},
    retry::Backoff,
    store::{NewDelivery, ONCE_FINISHED, ONCE_RETENTION, Push, Pushed, UniqueKey},
    time,
};

use super::queue::{NEVER, id_bytes};

/// At most so many marks whose time is over are deleted in one commit: no more than its own work may take.
const FORGOTTEN_MAX: usize = 2_000;

/// How many rows one insert has: few shapes, so that each is prepared once, and enough of them that a group takes two or three
/// inserts. Each is a way to the connection's thread and back, which costs more than its rows. SQLite binds at most 32,766 values.
const SHAPES: [usize; 12] = [64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1];

/// Counts what the statement before it has stored, all for one handler. In one text with it, for the same reason.
const COUNT: &str = "update evented_handlers set stored = stored + changes() where id = ?";

static INSERTS: LazyLock<[Arc<str>; 12]> = LazyLock::new(|| {
    SHAPES.map(|rows| {
        let row = "((select num from evented_handlers where id = ?), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let rows = vec![row; rows].join(", ");
        format!(
            "insert into evented_deliveries (handler, id, event_id, due_at, attempts_max, backoff_first_ms, \
             backoff_max_ms, timeout_ms, version, emitted_at, correlation, payload) values {rows} \
             on conflict (id) do nothing; {COUNT}"
        )
        .into()
    })
});

/// Inserts the deliveries of each push that was planned from the catalogue as it is, and that is not too late.
pub(super) async fn push(conn: &mut SqliteConnection, pushes: &[&Push]) -> Result<Vec<Pushed>, SqlxError> {
    if pushes.is_empty() {
        return Ok(Vec::new());
    }
    let (generation, last) = generation_and_last(conn).await?;
    // Nobody else writes between this look at the clock and the commit.
    let now = time::unix_ms();
    let answer = |push: &&Push| {
        if push.until.is_some_and(|until| now > until.0) {
            Pushed::TooLate
        } else if push.generation == generation {
            Pushed::Stored(Vec::new())
        } else {
            Pushed::CatalogueMoved
        }
    };
    let mut answers: Vec<_> = pushes.iter().map(answer).collect();
    let stored = || pushes.iter().zip(&answers).filter(|(_, answer)| answer.is_stored()).map(|(push, _)| *push);
    let once = stored().filter(|push| push.once).flat_map(|push| push.deliveries.iter());
    let repeated = remember(conn, once.map(|delivery| delivery.id).collect(), now).await?;
    let total: usize = stored().map(|push| push.deliveries.len()).sum();
    let deliveries = stored().flat_map(|push| push.deliveries.iter());
    let inserted = insert(conn, deliveries.filter(|delivery| !repeated.contains(&delivery.id))).await?;
    let finished: Vec<_> = stored().flat_map(|push| push.finished.iter()).collect();
    if !finished.is_empty() {
        forget(conn, &finished, now).await?;
    }
    if inserted < u64::try_from(total).unwrap_or(u64::MAX) {
        let mut new = stored_after(conn, last).await?;
        for (push, answer) in pushes.iter().zip(&mut answers) {
            if let Pushed::Stored(not_stored) = answer {
                // Of two that are the same, the first is the one that was stored.
                let others = push.deliveries.iter().filter(|delivery| !new.remove(&delivery.id));
                not_stored.extend(others.map(|delivery| delivery.id));
            }
        }
    }
    Ok(answers)
}

/// The catalogue's generation, and the number of the last delivery that is stored: in one statement, since each is a way to the
/// connection's thread and back.
async fn generation_and_last(conn: &mut SqliteConnection) -> Result<(u64, i64), SqlxError> {
    let sql = "select catalogue, (select max(seq) from evented_deliveries) from evented_schema";
    let found: Option<(i64, Option<i64>)> = query_as(sql).fetch_optional(conn).await?;
    Ok(found.map_or((0, 0), |(generation, last)| (generation.cast_unsigned(), last.unwrap_or(0))))
}

/// The deliveries that were stored after this one: numbers only grow.
async fn stored_after(conn: &mut SqliteConnection, last: i64) -> Result<HashSet<DeliveryId>, SqlxError> {
    let sql = "select id from evented_deliveries where seq > ?";
    let ids: Vec<Vec<u8>> = query_scalar(sql).bind(last).fetch_all(conn).await?;
    ids.iter().map(|id| Ok(DeliveryId::from_bytes(id_bytes(id)?))).collect()
}

/// Remembers deliveries whose push may be repeated; answers those that were remembered before.
async fn remember(
    conn: &mut SqliteConnection,
    mut deliveries: HashSet<DeliveryId>,
    now: i64,
) -> Result<HashSet<DeliveryId>, SqlxError> {
    if deliveries.is_empty() {
        return Ok(deliveries);
    }
    let new: Vec<Vec<u8>> = query_scalar(
        "insert into evented_once (id, at) select unhex(value), ?2 from json_each(?1) where true
         on conflict do nothing returning id",
    )
    .bind(hex_json(&deliveries))
    .bind(now)
    .fetch_all(conn)
    .await?;
    for id in new {
        deliveries.remove(&DeliveryId::from_bytes(id_bytes(&id)?));
    }
    Ok(deliveries)
}

/// Gives finished deliveries an age at which they are forgotten soon, and deletes about as many that have reached it.
async fn forget(conn: &mut SqliteConnection, finished: &[&DeliveryId], now: i64) -> Result<(), SqlxError> {
    let over = now - time::millis(ONCE_RETENTION);
    query("update evented_once set at = ?2 where id in (select unhex(value) from json_each(?1)) and at > ?2")
        .bind(hex_json(finished.iter().copied()))
        .bind(over + time::millis(ONCE_FINISHED))
        .execute(&mut *conn)
        .await?;
    let most = (2 * finished.len()).min(FORGOTTEN_MAX);
    query("delete from evented_once where id in (select id from evented_once where at < ? order by at limit ?)")
        .bind(over)
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .execute(conn)
        .await?;
    Ok(())
}

pub(super) fn hex_json<'a>(deliveries: impl IntoIterator<Item = &'a DeliveryId>) -> String {
    let hex = |delivery: &DeliveryId| format!("\"{:032x}\"", u128::from_be_bytes(delivery.to_bytes()));
    format!("[{}]", deliveries.into_iter().map(hex).collect::<Vec<_>>().join(","))
}

/// Inserts deliveries, those excepted whose unique key another has; answers how many were not there.
pub(super) async fn insert<'d>(
    conn: &mut SqliteConnection,
    deliveries: impl Iterator<Item = &'d NewDelivery>,
) -> Result<u64, SqlxError> {
    let now = time::unix_ms();
    let mut inserted = 0;
    // By handler, each of which has its own counter.
    let mut plain: Vec<(&str, Vec<&NewDelivery>)> = Vec::new();
    for delivery in deliveries {
        if let Some(unique) = delivery.unique
            && !takes_key(conn, delivery.id, unique, now).await?
        {
            continue;
        }
        if let Some(key) = delivery.order {
            inserted += insert_ordered(conn, delivery, key, now).await?;
            continue;
        }
        match plain.iter_mut().find(|(handler, _)| **handler == *delivery.handler) {
            Some((_, of_it)) => of_it.push(delivery),
            None => plain.push((&delivery.handler, vec![delivery])),
        }
    }
    for (handler, deliveries) in plain {
        let mut rest = &deliveries[..];
        for (rows, sql) in SHAPES.into_iter().zip(INSERTS.iter()) {
            while let Some((chunk, after)) = rest.split_at_checked(rows) {
                let mut insert = query(AssertSqlSafe(Arc::clone(sql)));
                for delivery in chunk {
                    insert = bind(insert, delivery, time::due_at(delivery.delay), now);
                }
                inserted += without_count(&insert.bind(handler).execute(&mut *conn).await?);
                rest = after;
            }
        }
    }
    Ok(inserted)
}

/// How many rows an insert has stored, of what it changed with its `COUNT`: that changes the handler's row.
fn without_count(changed: &SqliteQueryResult) -> u64 {
    changed.rows_affected().saturating_sub(1)
}

type Insert<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// Binds one row of `INSERTS`.
fn bind<'q>(insert: Insert<'q>, delivery: &'q NewDelivery, due_at: i64, now: i64) -> Insert<'q> {
    let (backoff_first, backoff_max) = backoff_columns(delivery.policy.backoff);
    insert
        .bind(&*delivery.handler)
        .bind(bytes(delivery.id.to_bytes()))
        .bind(bytes(delivery.event_id.to_bytes()))
        .bind(due_at)
        .bind(delivery.policy.attempts_max)
        .bind(backoff_first)
        .bind(backoff_max)
        .bind(time::millis(delivery.policy.timeout))
        .bind(delivery.version)
        .bind(delivery.emitted_unix_ms.unwrap_or(now))
        .bind(delivery.origin.to_bytes(delivery.event_id))
        .bind(&*delivery.payload)
}

/// Whether a delivery may be stored under its unique key: no other has had it lately. One that is there already is left as
/// it is, and its key too: its time counts from when it was stored.
async fn takes_key(
    conn: &mut SqliteConnection,
    id: DeliveryId,
    unique: UniqueKey,
    now: i64,
) -> Result<bool, SqlxError> {
    let taken = query(
        "insert into evented_unique (key, delivery, until) select ?1, ?2, ?3
         where not exists (select 1 from evented_deliveries where id = ?2)
         on conflict (key) do update set
            delivery = excluded.delivery, until = iif(until <= ?4, excluded.until, until)
         where until <= ?4 or delivery = excluded.delivery",
    )
    .bind(bytes(unique.key.to_bytes()))
    .bind(bytes(id.to_bytes()))
    .bind(time::due_at(unique.within))
    .bind(now)
    .execute(conn)
    .await?;
    Ok(taken.rows_affected() > 0)
}

/// Inserts a delivery that waits for those of its order key before it; answers how many that were.
async fn insert_ordered(
    conn: &mut SqliteConnection,
    delivery: &NewDelivery,
    key: Key,
    now: i64,
) -> Result<u64, SqlxError> {
    static INSERT: LazyLock<Arc<str>> = LazyLock::new(|| {
        format!(
            "insert into evented_deliveries (handler, id, event_id, own_due_at, attempts_max, backoff_first_ms,
            backoff_max_ms, timeout_ms, version, emitted_at, correlation, payload, order_key, due_at)
         values ((select num from evented_handlers where id = ?1), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13,
            iif(exists (select 1 from evented_deliveries where order_key = ?13), ?14, ?4))
         on conflict (id) do nothing; {COUNT}"
        )
        .into()
    });
    let due_at = time::due_at(delivery.delay);
    let insert = query(AssertSqlSafe(Arc::clone(&INSERT)));
    let insert = bind(insert, delivery, due_at, now).bind(bytes(key.to_bytes())).bind(NEVER);
    Ok(without_count(&insert.bind(&*delivery.handler).execute(conn).await?))
}

/// Lets the next delivery of an order key go, after the one before it has gone.
pub(super) async fn release_next(conn: &mut SqliteConnection, key: &[u8]) -> Result<(), SqlxError> {
    query(
        "update evented_deliveries set due_at = own_due_at
         where seq = (select min(seq) from evented_deliveries where order_key = ?1) and due_at = ?2",
    )
    .bind(key)
    .bind(NEVER)
    .execute(conn)
    .await?;
    Ok(())
}

/// A list as one value to bind, which `json_each` takes apart.
pub(super) fn to_json(list: &impl serde::Serialize) -> Result<String, SqlxError> {
    serde_json::to_string(list).map_err(|error| SqlxError::Encode(error.into()))
}

pub(super) fn bytes(id: [u8; 16]) -> Vec<u8> {
    id.to_vec()
}

pub(super) fn backoff_columns(backoff: Backoff) -> (i64, Option<i64>) {
    match backoff {
        Backoff::Exponential { first, max } => (time::millis(first), Some(time::millis(max))),
        Backoff::Fixed(delay) => (time::millis(delay), None),
    }
}
