//! Deliveries are settled: completed, put off, buried, released.

use std::{collections::HashSet, time::Duration};

use sqlx::{Error as SqlxError, Row as _, SqliteConnection, query, query_as, query_scalar};

use crate::{
    store::{Lease, Outcome, Settlement},
    time,
};

use super::{
    counts::Counts,
    push::release_next,
    queue::{NEVER, fence},
};

/// Settles what is still held; the answer says which was. Completions, which are most, take one statement together.
pub(super) async fn settle(
    conn: &mut SqliteConnection,
    settlements: &[Settlement],
    counts: &mut Counts,
) -> Result<Vec<bool>, SqlxError> {
    let mut held = Vec::with_capacity(settlements.len());
    let mut deletions = HashSet::new();
    let completed: Vec<_> = settlements
        .iter()
        .filter(|settlement| matches!(settlement.outcome, Outcome::Completed))
        .map(|settlement| &settlement.lease)
        .collect();
    if !completed.is_empty() {
        let deleted = query(
            "delete from evented_deliveries
             where seq in (
                select d.seq from json_each(?1) j
                join evented_deliveries d on d.seq = j.value ->> 0 and d.lease = j.value ->> 1)
             returning format('%d %d %d', seq, lease, handler), order_key",
        )
        .bind(fence(completed.into_iter()))
        .fetch_all(&mut *conn)
        .await?;
        for row in &deleted {
            let numbers: &str = row.try_get(0)?;
            let mut numbers = numbers.split(' ').map(|number| number.parse::<i64>().map_err(SqlxError::decode));
            let mut next = || numbers.next().unwrap_or(Err(SqlxError::RowNotFound));
            deletions.insert((next()?, next()?));
            counts.done(next()?);
            if let Some(key) = row.try_get::<Option<&[u8]>, _>(1)? {
                release_next(conn, key).await?;
            }
        }
    }
    for Settlement { lease, outcome } in settlements {
        let handler = match outcome {
            Outcome::Completed => {
                held.push(deletions.contains(&(lease.row, lease.token.to_i64())));
                continue;
            }
            Outcome::Retry { delay, error } => {
                retry(conn, *lease, *delay, error).await?.inspect(|handler| counts.retried(*handler))
            }
            Outcome::Dead { failed, error } => {
                bury(conn, *lease, *failed, error).await?.inspect(|handler| counts.dead(*handler))
            }
            Outcome::Released => release(conn, *lease).await?.inspect(|handler| counts.leased(*handler, -1)),
        };
        held.push(handler.is_some());
    }
    Ok(held)
}

async fn retry(
    conn: &mut SqliteConnection,
    lease: Lease,
    delay: Duration,
    error: &str,
) -> Result<Option<i64>, SqlxError> {
    query_scalar(
        "update evented_deliveries set lease = null, failed = failed + 1, due_at = ?3, error = ?4, suspect = 0, deaths = 0,
            charges = 0, pending = 0, died_with = null
         where seq = ?1 and lease = ?2 returning handler",
    )
    .bind(lease.row)
    .bind(lease.token.to_i64())
    .bind(time::due_at(delay))
    .bind(error)
    .fetch_optional(conn)
    .await
}

/// Moves the delivery to the dead letters.
async fn bury(conn: &mut SqliteConnection, lease: Lease, failed: u32, error: &str) -> Result<Option<i64>, SqlxError> {
    query(
        "insert into evented_dead_letters (id, event_id, handler, failed, deaths, attempts_max, backoff_first_ms,
            backoff_max_ms, timeout_ms, version, emitted_at, died_at, correlation, error, payload, order_key)
         select id, event_id, handler, ?5, deaths, attempts_max, backoff_first_ms, backoff_max_ms, timeout_ms,
            version, emitted_at, ?3, correlation, ?4, payload, order_key
         from evented_deliveries where seq = ?1 and lease = ?2",
    )
    .bind(lease.row)
    .bind(lease.token.to_i64())
    .bind(time::unix_ms())
    .bind(error)
    .bind(failed)
    .execute(&mut *conn)
    .await?;
    remove(conn, lease).await
}

/// Deletes a delivery whose lease is held, and lets the next of its order key go; the answer is its handler's number.
pub(super) async fn remove(conn: &mut SqliteConnection, lease: Lease) -> Result<Option<i64>, SqlxError> {
    let removed: Option<(i64, Option<Vec<u8>>)> =
        query_as("delete from evented_deliveries where seq = ?1 and lease = ?2 returning handler, order_key")
            .bind(lease.row)
            .bind(lease.token.to_i64())
            .fetch_optional(&mut *conn)
            .await?;
    let Some((handler, order_key)) = removed else { return Ok(None) };
    if let Some(key) = order_key {
        release_next(conn, &key).await?;
    }
    Ok(Some(handler))
}

async fn release(conn: &mut SqliteConnection, lease: Lease) -> Result<Option<i64>, SqlxError> {
    // A suspect is the suspect that it was.
    query_scalar(
        "update evented_deliveries set lease = null, due_at = iif(suspect = 0, ?3, ?4 - suspect)
         where seq = ?1 and lease = ?2 returning handler",
    )
    .bind(lease.row)
    .bind(lease.token.to_i64())
    .bind(time::unix_ms())
    .bind(NEVER)
    .fetch_optional(conn)
    .await
}
