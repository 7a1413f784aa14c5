//! Sessions, and deliveries whose session died while it had them.
//!
//! Who decides that a session has died holds its row until the commit: one that comes back meanwhile waits, and then finds all
//! that was held against it.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use sqlx::{Error as SqlxError, Executor as _, MySqlConnection, Row as _};

use crate::{
    id::{LeaseToken, SessionId},
    store::{CHARGES_MAX, ClaimHandler, Lease, Suspected, Suspects, lived_for_trial},
    time,
};

use super::{
    claim::{Held, hold, lease_text},
    counts::{Counted, Counts, write_all},
    link::{NO_SUCH_TABLE, Running, code, read, sql, write},
    sql::{EXPOSED, NEVER, TRIED, list, now_ms, numbers, sorted},
};

/// Of so many suspects of a handler that wait to be tried it is looked whether they can be.
const CANDIDATES: usize = 100;

/// Of held deliveries whose lease has ended, answers those that are due again since their session did not die. The others, and
/// those that were suspects, wait as suspects from now on.
pub(super) async fn accuse(
    conn: &mut MySqlConnection,
    ended: Vec<Held>,
    counts: &mut Counts,
) -> Result<Vec<Held>, SqlxError> {
    let holders = sorted(ended.iter().filter_map(|held| held.holder));
    let text = format!(
        concat!("select id from evented_sessions where id in ({}) and until_ms <= ", now_ms!(), " lock in share mode"),
        numbers(holders)
    );
    let dead = read(conn, text).await?.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<i64>, _>>()?;
    let (mut interrupted, mut waiting, mut died) = (Vec::new(), Vec::new(), Vec::new());
    let mut died_with_before = Vec::new();
    for held in ended {
        let has_died = held.holder.is_some_and(|holder| dead.contains(&holder));
        if !has_died && !held.is_suspect {
            interrupted.push(held);
            continue;
        }
        counts.add(held.handler, Counted::Running, -1);
        if has_died {
            died.push(held.row);
            died_with_before.extend(held.died_with);
        } else {
            waiting.push(held.row);
        }
    }
    let mut statements = Vec::new();
    if !waiting.is_empty() {
        statements.push(format!(
            "update evented_deliveries set lease = null, due_at = {NEVER} - suspect where seq in ({})",
            numbers(waiting)
        ));
    }
    if !died_with_before.is_empty() {
        // What died with the same session before is not what this one died of alone.
        statements.push(format!(
            "update evented_deliveries set pending = 0 where died_with in ({}) and pending = 1",
            numbers(sorted(died_with_before))
        ));
    }
    if !died.is_empty() {
        // Assignments go from left to right, each with what the one before it left.
        statements.push(format!(
            "update evented_deliveries set pending = (suspect = 2), deaths = deaths + 1, suspect = if(deaths > 1, 2, 1),
                due_at = {NEVER} - suspect, lease = null, died_with = holder
             where seq in ({})",
            numbers(died)
        ));
    }
    write_all(conn, statements).await?;
    Ok(interrupted)
}

/// Claims suspects. Answers also how many rows of counts that has left.
pub(super) fn claim<'a>(conn: &'a mut MySqlConnection, asked: &'a Suspects) -> Running<'a, (Suspected, u64)> {
    Box::pin(async move {
        match claim_some(conn, asked).await {
            // Dropped, and made again as soon as somebody reads the catalogue.
            Err(error) if code(&error) == Some(NO_SUCH_TABLE) => {
                conn.execute("rollback").await?;
                Ok((Suspected::default(), 0))
            }
            claimed => claimed,
        }
    })
}

async fn claim_some(conn: &mut MySqlConnection, asked: &Suspects) -> Result<(Suspected, u64), SqlxError> {
    let handlers = handlers(conn, asked).await?;
    let asked_for = numbers(handlers.iter().map(|(number, _)| *number));
    let token = LeaseToken::mint();
    let mut exposed = Vec::new();
    if asked.exposed > 0 {
        let rows = waiting(conn, &handlers, EXPOSED, asked.exposed).await?.into_iter().take(asked.exposed);
        exposed = hold(conn, rows, &format!("d.due_at = {EXPOSED}"), token).await?;
        exposed.sort_unstable_by_key(|held| held.row);
    }
    let mut tried = Vec::new();
    if let Some(lived) = asked.tried {
        let rows = waiting(conn, &handlers, TRIED, CANDIDATES).await?;
        let row = can_be_tried(conn, &rows, &asked_for, asked.lease, lived).await?;
        tried = hold(conn, row, &format!("d.due_at = {TRIED}"), token).await?;
    }
    let mut statements = Vec::new();
    let mut counts = Counts::default();
    for held in [&exposed, &tried] {
        for held in held {
            counts.add(held.handler, Counted::Running, 1);
        }
        if !held.is_empty() {
            statements.push(lease_text(held, token, asked.lease, asked.session));
        }
    }
    statements.extend(counts.statements());
    write_all(conn, statements).await?;
    let text = format!(
        "select exists (select 1 from evented_deliveries force index (evented_deliveries_due)
            where handler in ({asked_for}) and due_at between {TRIED} and {EXPOSED})"
    );
    let more = read(conn, text).await?.first().ok_or(SqlxError::RowNotFound)?.try_get(0)?;
    let exposed = exposed.into_iter().map(Held::into_claimed).collect();
    let tried = tried.into_iter().map(Held::into_claimed).next();
    Ok((Suspected { exposed, tried, more }, counts.rows()))
}

/// The asked handlers in queues that are not paused, each with its number.
async fn handlers<'a>(
    conn: &mut MySqlConnection,
    asked: &'a Suspects,
) -> Result<Vec<(i64, &'a ClaimHandler)>, SqlxError> {
    let mut known: HashMap<String, i64> = HashMap::new();
    for row in sql("select id, cast(num as signed) from evented_handlers").fetch_all(&mut *conn).await? {
        known.insert(row.try_get(0)?, row.try_get(1)?);
    }
    let paused = sql("select name from evented_queues where paused").fetch_all(conn).await?;
    let paused = paused.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<String>, _>>()?;
    let queues = asked.queues.iter().filter(|queue| !paused.contains(&*queue.name));
    let handlers = queues.flat_map(|queue| &queue.handlers);
    Ok(handlers.filter_map(|handler| Some((*known.get(&*handler.name)?, handler))).collect())
}

/// The suspects of these handlers that wait so, the oldest first: of each handler no more than so many.
async fn waiting(
    conn: &mut MySqlConnection,
    handlers: &[(i64, &ClaimHandler)],
    due_at: i64,
    most: usize,
) -> Result<Vec<i64>, SqlxError> {
    if handlers.is_empty() {
        return Ok(Vec::new());
    }
    let of_handler = |(number, handler): &(i64, &ClaimHandler)| {
        format!(
            "(select seq from evented_deliveries force index (evented_deliveries_due)
              where handler = {number} and due_at = {due_at} and version <= {} order by seq limit {most})",
            handler.version
        )
    };
    let text = handlers.iter().map(of_handler).collect::<Vec<_>>().join(" union all ");
    let rows = read(conn, text).await?;
    Ok(sorted(rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?))
}

/// The first of those that wait to be tried which can be: each lease of the session that died with it has ended, all that is
/// exposed of what it had is settled, and the asking session has lived long enough.
async fn can_be_tried(
    conn: &mut MySqlConnection,
    rows: &[i64],
    handlers: &str,
    lease: Duration,
    lived: Duration,
) -> Result<Option<i64>, SqlxError> {
    if rows.is_empty() {
        return Ok(None);
    }
    let charges = (0..=CHARGES_MAX).filter(|charges| lived >= lived_for_trial(lease, *charges)).map(i64::from);
    let text = format!(
        concat!(
            "select d.seq from evented_deliveries d
             where d.seq in ({}) and least(d.charges + d.pending, {}) in ({})
                and not exists (select 1 from evented_sessions s
                    where s.id = d.died_with and s.until_ms + s.lease_ms > ",
            now_ms!(),
            ")
                and not exists (select 1 from evented_deliveries o force index (evented_deliveries_died)
                    where o.died_with = d.died_with and o.suspect = 1 and o.handler in ({}))
             order by d.seq limit 1"
        ),
        numbers(rows.iter().copied()),
        CHARGES_MAX,
        numbers(charges),
        handlers
    );
    read(conn, text).await?.first().map(|row| row.try_get(0)).transpose()
}

/// What is renewed.
pub(super) struct Renewal<'r> {
    pub session: SessionId,
    pub leases: &'r [Lease],
    pub lease: Duration,
}

/// Renews a session, and of its leases what is still held, as far as nobody else has the row in hand: the claim that would take
/// it passes such a row by as well, and a settlement in between needs no renewal. Answers for each lease whether it is held;
/// and whether the session has come back.
pub(super) fn extend<'a>(conn: &'a mut MySqlConnection, asked: &'a Renewal<'_>) -> Running<'a, (Vec<bool>, bool)> {
    Box::pin(async move {
        match renew(conn, asked).await {
            // Dropped: nothing is held any more.
            Err(error) if code(&error) == Some(NO_SUCH_TABLE) => {
                conn.execute("rollback").await?;
                Ok((vec![false; asked.leases.len()], false))
            }
            renewed => renewed,
        }
    })
}

async fn renew(
    conn: &mut MySqlConnection,
    Renewal { session, leases, lease }: &Renewal<'_>,
) -> Result<(Vec<bool>, bool), SqlxError> {
    let text = format!(
        concat!("select until_ms <= ", now_ms!(), " from evented_sessions where id = {} for update"),
        session.to_i64()
    );
    let came_back = read(conn, text).await?.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false);
    let mut statements = Vec::new();
    if came_back {
        statements.push(take_back(*session));
    }
    statements.push(format!(
        concat!(
            "insert into evented_sessions (id, until_ms, lease_ms) values ({}, ",
            now_ms!(),
            " + {}, {}) on duplicate key update until_ms = values(until_ms), lease_ms = values(lease_ms)"
        ),
        session.to_i64(),
        time::delay_ms(*lease),
        time::delay_ms(*lease)
    ));
    write_all(conn, statements).await?;
    if leases.is_empty() {
        return Ok((Vec::new(), came_back));
    }
    let fence = fence(leases.iter());
    let rows = numbers(leases.iter().map(|lease| lease.row));
    let free =
        format!("select seq, lease from evented_deliveries where seq in ({rows}) and {fence} for update skip locked");
    let mut held = leased(conn, free).await?;
    if !held.is_empty() {
        let text = format!(
            concat!("update evented_deliveries set due_at = ", now_ms!(), " + {} where seq in ({})"),
            time::delay_ms(*lease),
            numbers(held.iter().map(|(row, _)| *row))
        );
        write(conn, text).await?;
    }
    if held.len() < leases.len() {
        let others = format!("select seq, lease from evented_deliveries where seq in ({rows}) and {fence}");
        held.extend(leased(conn, others).await?);
    }
    let held = leases.iter().map(|lease| held.contains(&(lease.row, lease.token.to_i64()))).collect();
    Ok((held, came_back))
}

/// Takes back the deaths that a session was which is alive after all.
fn take_back(session: SessionId) -> String {
    // Assignments go from left to right: what decides is changed last.
    format!(
        concat!(
            "update evented_deliveries set
                due_at = if(lease is not null or due_at < {tried}, due_at,
                    if(deaths <= 1, ",
            now_ms!(),
            ", {never} - if(deaths = 2, 1, 2))),
                suspect = if(deaths <= 1, 0, if(deaths = 2, 1, 2)), deaths = greatest(deaths - 1, 0), pending = 0,
                died_with = null
             where died_with = {session}"
        ),
        tried = TRIED,
        never = NEVER,
        session = session.to_i64()
    )
}

async fn leased(conn: &mut MySqlConnection, text: String) -> Result<HashSet<(i64, i64)>, SqlxError> {
    let rows = read(conn, text).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// The rows and tokens of leases, in pairs.
fn fence<'a>(leases: impl Iterator<Item = &'a Lease>) -> String {
    let pairs = leases.map(|lease| format!("({},{})", lease.row, lease.token.to_i64()));
    format!("(seq, lease) in ({})", list(pairs))
}

/// Forgets a session.
pub(super) fn leave<'a>(conn: &'a mut MySqlConnection, session: &'a SessionId) -> Running<'a, ()> {
    Box::pin(async move {
        match write(conn, format!("delete from evented_sessions where id = {}", session.to_i64())).await {
            Err(error) if code(&error) == Some(NO_SUCH_TABLE) => Ok(()),
            left => left.map(drop),
        }
    })
}
