//! Deliveries are claimed, and their leases renewed.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};

use sqlx::{Error as SqlxError, Row as _, SqliteConnection, query, query_as, query_scalar, sqlite::SqliteRow};

use crate::{
    id::{DeliveryId, EventId, LeaseToken},
    origin::Origin,
    retry::{Backoff, Policy},
    store::{Claim, Claimed, Claims, Exchanged, Lease, Outcome, Settlement, pick},
    time,
};

use super::{counts::Counts, push::to_json, settle::settle, writer::Running};

/// The `due_at` of a delivery that waits for another of its order key.
pub(super) const NEVER: i64 = i64::MAX;

/// The catalogue's generation; zero, which is none, where its row is missing.
pub(super) async fn generation(conn: &mut SqliteConnection) -> Result<u64, SqlxError> {
    let generation: Option<i64> = query_scalar("select catalogue from evented_schema").fetch_optional(conn).await?;
    Ok(generation.unwrap_or(0).cast_unsigned())
}

/// What is due, and when the next will be. Reads only: a worker that finds nothing takes no lock.
#[derive(Default)]
pub(super) struct Due {
    /// In the order in which they are to run, each with the place of its handler among the names.
    pub rows: Vec<(i64, usize)>,
    names: Vec<Arc<str>>,
    pub next: Option<Duration>,
    /// The catalogue's generation at that time.
    pub generation: u64,
}

/// Finds due rows of queues that are not paused. What was `settled` just now is left for another claim.
pub(super) async fn due(conn: &mut SqliteConnection, claim: &Claim, settled: &[Settlement]) -> Result<Due, SqlxError> {
    let now = time::unix_ms();
    let mut due = Due::default();
    let mut next: Option<i64> = None;
    let given_back = |settled: &&Settlement| matches!(settled.outcome, Outcome::Released | Outcome::Retry { .. });
    let given_back: HashSet<i64> = settled.iter().filter(given_back).map(|settled| settled.lease.row).collect();
    if claim.queues.is_empty() {
        due.generation = generation(&mut *conn).await?;
    }
    for queue in &claim.queues {
        let asked: Vec<_> = queue.handlers.iter().map(|handler| (&*handler.name, handler.version)).collect();
        // For each handler one descent of the index: its next time, and the oldest due rows as a list. The last row has the
        // catalogue's generation.
        let found: Vec<(i64, Option<i64>, Option<String>)> = query_as(
            "select h.key,
                (select min(d.due_at) from evented_deliveries d where d.handler = n.num and d.due_at > ?2),
                (select json_group_array(seq) from (
                    select d.seq from evented_deliveries d
                    where d.handler = n.num and d.due_at <= ?2 and d.version <= h.value ->> 1
                    order by d.due_at, d.seq limit ?3))
             from json_each(?1) h join evented_handlers n on n.id = h.value ->> 0
             where not exists (select 1 from evented_queues q where q.name = ?4 and q.paused)
             union all select -1, catalogue, null from evented_schema",
        )
        .bind(to_json(&asked)?)
        .bind(now)
        // One more than wanted, to know whether there is more; and as many as are left out of what is found.
        .bind(i64::try_from(queue.wanted.saturating_add(1 + given_back.len())).unwrap_or(i64::MAX))
        .bind(&*queue.name)
        .fetch_all(&mut *conn)
        .await?;
        let (of_handlers, generations): (Vec<_>, Vec<_>) = found.into_iter().partition(|(handler, ..)| *handler >= 0);
        // None where the row is missing: the catalogue is read then, which makes it again.
        due.generation = generations.iter().find_map(|(_, generation, _)| *generation).unwrap_or(0).cast_unsigned();
        let times = of_handlers.iter().filter_map(|(_, next, _)| *next).filter(|next| *next < NEVER);
        next = next.into_iter().chain(times).min();
        let mut lists: Vec<Vec<(i64, usize)>> = vec![Vec::new(); queue.handlers.len()];
        let first_name = due.names.len();
        due.names.extend(queue.handlers.iter().map(|handler| Arc::clone(&handler.name)));
        let mut left = false;
        for (handler, _, rows) in of_handlers {
            let handler = usize::try_from(handler).map_err(SqlxError::decode)?;
            let rows = rows.unwrap_or_default();
            let mut rows: Vec<i64> = serde_json::from_str(&rows).map_err(SqlxError::decode)?;
            let found = rows.len();
            rows.retain(|row| !given_back.contains(row));
            left |= rows.len() < found;
            lists[handler] = rows.into_iter().map(|row| (row, first_name + handler)).collect();
        }
        let (rows, more) = pick(queue, &lists);
        due.rows.extend(rows);
        if more || left {
            next = Some(now);
        }
    }
    due.next = next.map(|due_at| time::from_millis(due_at.saturating_sub(now)));
    Ok(due)
}

pub(super) async fn paused(conn: &mut SqliteConnection) -> Result<Vec<String>, SqlxError> {
    query_scalar("select name from evented_queues where paused order by name").fetch_all(conn).await
}

/// What an exchange writes.
pub(super) struct Exchange {
    pub settlements: Arc<[Settlement]>,
    pub claim: Option<Claim>,
    /// What is due, where that was looked up before.
    pub due: Option<Due>,
}

/// Settles, then claims.
pub(super) fn exchange<'a>(conn: &'a mut SqliteConnection, exchange: &'a Exchange) -> Running<'a, Exchanged> {
    Box::pin(async move {
        let mut counts = Counts::default();
        let held = settle(conn, &exchange.settlements, &mut counts).await?;
        let Some(claim) = &exchange.claim else {
            counts.write(conn).await?;
            return Ok(Exchanged { held, ..Exchanged::default() });
        };
        let found;
        let due = if let Some(due) = &exchange.due {
            due
        } else {
            found = self::due(conn, claim, &exchange.settlements).await?;
            &found
        };
        let claims = lease(conn, due, claim.lease, &mut counts).await?;
        counts.write(conn).await?;
        Ok(Exchanged { held, claims, generation: Some(due.generation) })
    })
}

/// Claims what is due. What was `settled` just now is left for another claim.
pub(super) async fn claim(
    conn: &mut SqliteConnection,
    claim: &Claim,
    settled: &[Settlement],
) -> Result<Claims, SqlxError> {
    let due = due(conn, claim, settled).await?;
    let mut counts = Counts::default();
    let claims = lease(conn, &due, claim.lease, &mut counts).await?;
    counts.write(conn).await?;
    Ok(claims)
}

/// What `alone` says of a delivery that is leased when its last lease has ended; 3 where that was given back, 0 where it has never
/// been lost since it ran to an end.
const LOST: i64 = 1;

/// Leases rows that are due. A row comes back in few columns, since each one costs allocations on its way through the driver.
async fn lease(
    conn: &mut SqliteConnection,
    due: &Due,
    lease: Duration,
    counts: &mut Counts,
) -> Result<Claims, SqlxError> {
    if due.rows.is_empty() {
        return Ok(Claims { next_due: due.next, ..Claims::default() });
    }
    let now = time::unix_ms();
    let token = LeaseToken::mint();
    let rows: Vec<i64> = due.rows.iter().map(|(row, _)| *row).collect();
    let leased = query(
        "update evented_deliveries set
                lease = ?1,
                due_at = ?2,
                deaths = deaths + (lease is not null and alone = 2),
                alone = iif(lease is not null, 1, iif(alone > 0, 3, 0))
             where seq in (select value from json_each(?3)) and due_at <= ?4
             returning format('%d %d %d %d %d %d %d %d %d %d %d %d', handler, seq, version, emitted_at, failed, alone, deaths,
                    attempts_max, backoff_first_ms, ifnull(backoff_max_ms, -1), timeout_ms, order_key is not null),
                id || event_id, correlation, payload",
    )
    .bind(token.to_i64())
    .bind(time::due_at(lease))
    .bind(to_json(&rows)?)
    .bind(now)
    .fetch_all(conn)
    .await?;
    // An update returns rows in any order; run them in the order in which they were due.
    let places: HashMap<i64, usize> = rows.into_iter().zip(0..).collect();
    let mut claimed: Vec<Option<Claimed>> = due.rows.iter().map(|_| None).collect();
    for row in &leased {
        let (row, read) = read(row, token, counts)?;
        let Some(&place) = places.get(&row) else { continue };
        let (_, name) = due.rows[place];
        claimed[place] = Some(read(Arc::clone(&due.names[name])));
    }
    Ok(Claims { deliveries: claimed.into_iter().flatten().collect(), next_due: due.next })
}

/// A leased row's number, and the delivery that it is for the handler of a name.
fn read(
    row: &SqliteRow,
    token: LeaseToken,
    counts: &mut Counts,
) -> Result<(i64, impl FnOnce(Arc<str>) -> Claimed + use<>), SqlxError> {
    let numbers: &str = row.try_get(0)?;
    let mut numbers = numbers.split(' ');
    let mut next =
        || -> Result<i64, SqlxError> { numbers.next().unwrap_or_default().parse().map_err(SqlxError::decode) };
    let small = |number: i64| u32::try_from(number).map_err(SqlxError::decode);
    let (handler, seq) = (next()?, next()?);
    let (version, emitted_unix_ms, failed) = (small(next()?)?, next()?, small(next()?)?);
    let (alone, deaths, attempts_max) = (next()?, small(next()?)?, small(next()?)?);
    // One that was leased until now is counted as leased.
    counts.leased(handler, i64::from(alone != LOST));
    let lost = alone != 0;
    let (first, max, timeout) = (next()?, next()?, next()?);
    let ordered = next()? != 0;
    let (id, event) = row.try_get_unchecked::<&[u8], _>(1)?.split_at_checked(16).unwrap_or_default();
    let (id, event_id) = (DeliveryId::from_bytes(id_bytes(id)?), event_id(event)?);
    let origin = Origin::from_bytes(event_id, row.try_get(2)?);
    let payload = row.try_get::<&[u8], _>(3)?.into();
    let policy = Policy {
        attempts_max,
        backoff: backoff(first, (max >= 0).then_some(max)),
        timeout: time::from_millis(timeout),
    };
    let lease = Lease { delivery: id, row: seq, token, ordered };
    let claimed = move |handler| Claimed {
        lease,
        event_id,
        handler,
        origin,
        version,
        emitted_unix_ms,
        failed,
        lost,
        deaths,
        policy,
        payload,
    };
    Ok((seq, claimed))
}

pub(super) fn backoff(first_ms: i64, max_ms: Option<i64>) -> Backoff {
    let first = time::from_millis(first_ms);
    match max_ms {
        Some(max_ms) => Backoff::Exponential { first, max: time::from_millis(max_ms) },
        None => Backoff::Fixed(first),
    }
}

pub(super) fn id_bytes(bytes: &[u8]) -> Result<[u8; 16], SqlxError> {
    bytes.try_into().map_err(SqlxError::decode)
}

pub(super) fn event_id(bytes: &[u8]) -> Result<EventId, SqlxError> {
    id_bytes(bytes).map(EventId::from_bytes)
}

/// `[[row, token], ..]`: the fence of many leases as one value.
pub(super) fn fence<'a>(leases: impl Iterator<Item = &'a Lease>) -> String {
    let mut json = String::from("[");
    for lease in leases {
        let comma = if json.len() > 1 { "," } else { "" };
        write!(json, "{comma}[{},{}]", lease.row, lease.token.to_i64()).expect("a string takes what is written to it");
    }
    json.push(']');
    json
}

/// Renews what is still held; the answer has its rows and tokens.
pub(super) async fn extend(
    conn: &mut SqliteConnection,
    leases: &[Lease],
    lease: Duration,
) -> Result<HashSet<(i64, i64)>, SqlxError> {
    let held: Vec<(i64, i64)> = query_as(
        "update evented_deliveries set due_at = ?2
         where seq in (
            select d.seq from json_each(?1) j
            join evented_deliveries d on d.seq = j.value ->> 0 and d.lease = j.value ->> 1)
         returning seq, lease",
    )
    .bind(fence(leases.iter()))
    .bind(time::due_at(lease))
    .fetch_all(conn)
    .await?;
    Ok(held.into_iter().collect())
}

/// Notes whether a delivery runs alone now.
pub(super) fn runs_alone<'a>(conn: &'a mut SqliteConnection, (lease, runs): &'a (Lease, bool)) -> Running<'a, bool> {
    Box::pin(async move {
        let held = query("update evented_deliveries set alone = ?3 where seq = ?1 and lease = ?2")
            .bind(lease.row)
            .bind(lease.token.to_i64())
            .bind(if *runs { 2 } else { 1 })
            .execute(conn)
            .await?;
        Ok(held.rows_affected() > 0)
    })
}
