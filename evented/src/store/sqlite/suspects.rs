//! Sessions, and deliveries whose session died while it had them.
//!
//! A suspect that waits has a `due_at` just before never (`SUSPECT`), so that no claim finds it, and the index on it finds the
//! suspects of a handler.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use sqlx::{Connection as _, Error as SqlxError, SqliteConnection, query, query_as, query_scalar};

use crate::{
    id::SessionId,
    store::{ClaimHandler, Lease, Suspected, Suspects, TRIED_FROM, lived_for_trial},
    time,
};

use super::{
    counts::Counts,
    push::to_json,
    queue::{NEVER, Names, SUSPECT, fence, lease_rows},
    writer::Running,
};

/// The `due_at` of a suspect that waits to be exposed.
const EXPOSED: i64 = NEVER - 1;
/// And of one that waits to be tried singly.
const TRIED: i64 = NEVER - 2;

const _: () = assert!(SUSPECT == TRIED && SUSPECT + 1 == EXPOSED && TRIED_FROM == 2, "as the statements have it");

/// Of so many suspects of a handler that wait to be tried it is looked whether they can be.
const CANDIDATES: i64 = 100;

/// Of deliveries whose lease has ended, gives back and answers those that are due again since their session did not die. The others, and those
/// that were suspects, wait as suspects from now on.
pub(super) async fn accuse(
    conn: &mut SqliteConnection,
    ended: &[i64],
    counts: &mut Counts,
) -> Result<Vec<i64>, SqlxError> {
    let now = time::unix_ms();
    let found: Vec<(i64, i64, bool, bool)> = query_as(
        "select d.seq, d.handler, d.suspect > 0,
            exists (select 1 from evented_sessions s where s.id = d.session and s.until <= ?2)
         from evented_deliveries d
         where d.seq in (select value from json_each(?1)) and d.lease is not null and d.due_at <= ?2",
    )
    .bind(to_json(&ended)?)
    .bind(now)
    .fetch_all(&mut *conn)
    .await?;
    let (mut interrupted, mut waiting, mut died) = (Vec::new(), Vec::new(), Vec::new());
    for (row, handler, is_suspect, has_died) in found {
        // Leased until now; who leases it again counts it again.
        counts.leased(handler, -1);
        match (has_died, is_suspect) {
            (true, _) => died.push(row),
            (false, true) => waiting.push(row),
            (false, false) => interrupted.push(row),
        }
    }
    if !interrupted.is_empty() {
        query("update evented_deliveries set lease = null where seq in (select value from json_each(?))")
            .bind(to_json(&interrupted)?)
            .execute(&mut *conn)
            .await?;
    }
    if !waiting.is_empty() {
        query(
            "update evented_deliveries set lease = null, due_at = ?2 - suspect
             where seq in (select value from json_each(?1))",
        )
        .bind(to_json(&waiting)?)
        .bind(NEVER)
        .execute(&mut *conn)
        .await?;
    }
    if !died.is_empty() {
        let died = to_json(&died)?;
        // Those that died with the same session before are not what this one died of alone.
        query(
            "update evented_deliveries set pending = 0
             where pending = 1 and died_with in (
                select died_with from evented_deliveries where seq in (select value from json_each(?1)) and died_with is not null)",
        )
        .bind(&died)
        .execute(&mut *conn)
        .await?;
        query(
            "update evented_deliveries set lease = null, deaths = deaths + 1, died_with = session, pending = suspect = 2,
                suspect = iif(deaths >= 1, 2, 1), due_at = ?2 - iif(deaths >= 1, 2, 1)
             where seq in (select value from json_each(?1))",
        )
        .bind(&died)
        .bind(NEVER)
        .execute(conn)
        .await?;
    }
    Ok(interrupted)
}

/// Claims suspects.
pub(super) fn claim<'a>(conn: &'a mut SqliteConnection, asked: &'a Suspects) -> Running<'a, Suspected> {
    Box::pin(async move {
        let handlers = handlers(conn, asked).await?;
        let numbers: Vec<i64> = handlers.iter().map(|(number, _)| *number).collect();
        let exposed = if asked.exposed > 0 { waiting(conn, &handlers, EXPOSED).await? } else { Vec::new() };
        let exposed: Vec<_> = exposed.into_iter().take(asked.exposed).collect();
        let mut tried = None;
        if let Some(lived) = asked.tried {
            for (row, name) in waiting(conn, &handlers, TRIED).await? {
                if can_be_tried(conn, row, &numbers, asked.lease, lived).await? {
                    tried = Some((row, name));
                    break;
                }
            }
        }
        let found = exposed.iter().chain(&tried).enumerate();
        let names: Names<'_> = found.map(|(place, (row, at))| (*row, (place, &handlers[*at].1.name))).collect();
        let rows: Vec<i64> = names.keys().copied().collect();
        let mut counts = Counts::default();
        let mut claimed = lease_rows(conn, &rows, asked.lease, asked.session, &names, &mut counts).await?;
        counts.write(&mut *conn).await?;
        let at = tried.and_then(|(row, _)| claimed.iter().position(|claimed| claimed.lease.row == row));
        let tried = at.map(|at| claimed.remove(at));
        let more: bool = query_scalar(
            "select exists (select 1 from json_each(?1) h
                join evented_deliveries d on d.handler = h.value and d.due_at between ?2 and ?3)",
        )
        .bind(to_json(&numbers)?)
        .bind(TRIED)
        .bind(EXPOSED)
        .fetch_one(conn)
        .await?;
        Ok(Suspected { exposed: claimed, tried, more })
    })
}

/// The asked handlers in queues that are not paused, each with its number.
async fn handlers<'a>(
    conn: &mut SqliteConnection,
    asked: &'a Suspects,
) -> Result<Vec<(i64, &'a ClaimHandler)>, SqlxError> {
    let known: Vec<(String, i64)> = query_as("select id, num from evented_handlers").fetch_all(&mut *conn).await?;
    let numbers: HashMap<String, i64> = known.into_iter().collect();
    let paused: Vec<String> = query_scalar("select name from evented_queues where paused").fetch_all(conn).await?;
    let paused: HashSet<String> = paused.into_iter().collect();
    let queues = asked.queues.iter().filter(|queue| !paused.contains(&*queue.name));
    let handlers = queues.flat_map(|queue| &queue.handlers);
    Ok(handlers.filter_map(|handler| Some((*numbers.get(&*handler.name)?, handler))).collect())
}

/// The suspects of these handlers that wait so, the oldest first, each with the place of its handler.
async fn waiting(
    conn: &mut SqliteConnection,
    handlers: &[(i64, &ClaimHandler)],
    due_at: i64,
) -> Result<Vec<(i64, usize)>, SqlxError> {
    let asked: Vec<_> = handlers.iter().map(|(number, handler)| (number, handler.version)).collect();
    let mut found: Vec<(i64, i64)> = query_as(
        "select d.seq, h.key from json_each(?1) h join evented_deliveries d on d.seq in (
            select w.seq from evented_deliveries w
            where w.handler = h.value ->> 0 and w.due_at = ?2 and w.version <= h.value ->> 1 order by w.seq limit ?3)",
    )
    .bind(to_json(&asked)?)
    .bind(due_at)
    .bind(CANDIDATES)
    .fetch_all(conn)
    .await?;
    found.sort_unstable();
    found.into_iter().map(|(row, at)| Ok((row, usize::try_from(at).map_err(SqlxError::decode)?))).collect()
}

/// Whether one that waits to be tried can be now: each lease of the session that died with it has ended, all that is exposed of what
/// it had is settled, and the asking session has lived long enough.
async fn can_be_tried(
    conn: &mut SqliteConnection,
    row: i64,
    handlers: &[i64],
    lease: Duration,
    lived: Duration,
) -> Result<bool, SqlxError> {
    let (charges, waits): (u32, bool) = query_as(
        "select d.charges + d.pending, exists (
            select 1 from evented_deliveries o
            where o.died_with = d.died_with and o.suspect = 1 and o.handler in (select value from json_each(?2)))
            or exists (select 1 from evented_sessions s where s.id = d.died_with and s.until + s.lease_ms > ?3)
         from evented_deliveries d where d.seq = ?1",
    )
    .bind(row)
    .bind(to_json(&handlers)?)
    .bind(time::unix_ms())
    .fetch_one(conn)
    .await?;
    Ok(!waits && lived >= lived_for_trial(lease, charges))
}

/// Renews a session and what it still holds; the answer has the rows and tokens of that.
pub(super) async fn extend(
    conn: &mut SqliteConnection,
    session: SessionId,
    leases: &[Lease],
    lease: Duration,
) -> Result<HashSet<(i64, i64)>, SqlxError> {
    let mut tx = conn.begin_with("begin immediate").await?;
    let (now, until) = (time::unix_ms(), time::due_at(lease));
    let before: Option<i64> = query_scalar("select until from evented_sessions where id = ?")
        .bind(session.to_i64())
        .fetch_optional(&mut *tx)
        .await?;
    if before.is_some_and(|before| before <= now) {
        take_back(&mut tx, session, now).await?;
    }
    query(
        "insert into evented_sessions (id, until, lease_ms) values (?1, ?2, ?3)
         on conflict (id) do update set until = ?2, lease_ms = ?3",
    )
    .bind(session.to_i64())
    .bind(until)
    .bind(time::delay_ms(lease))
    .execute(&mut *tx)
    .await?;
    let held: Vec<(i64, i64)> = query_as(
        "update evented_deliveries set due_at = ?2
         where seq in (
            select d.seq from json_each(?1) j
            join evented_deliveries d on d.seq = j.value ->> 0 and d.lease = j.value ->> 1)
         returning seq, lease",
    )
    .bind(fence(leases.iter()))
    .bind(until)
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(held.into_iter().collect())
}

/// Takes back the deaths that a session was which is alive after all.
async fn take_back(conn: &mut SqliteConnection, session: SessionId, now: i64) -> Result<(), SqlxError> {
    query(
        "update evented_deliveries set deaths = max(deaths - 1, 0), pending = 0, died_with = null,
            suspect = iif(deaths <= 1, 0, iif(deaths = 2, 1, 2)),
            due_at = iif(lease is not null or due_at < ?2, due_at, iif(deaths <= 1, ?3, ?4 - iif(deaths = 2, 1, 2)))
         where died_with = ?1",
    )
    .bind(session.to_i64())
    .bind(SUSPECT)
    .bind(now)
    .bind(NEVER)
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets a session.
pub(super) fn leave<'a>(conn: &'a mut SqliteConnection, session: &'a SessionId) -> Running<'a, ()> {
    Box::pin(async move {
        query("delete from evented_sessions where id = ?").bind(session.to_i64()).execute(conn).await?;
        Ok(())
    })
}
