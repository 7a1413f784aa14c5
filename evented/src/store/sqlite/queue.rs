//! Deliveries are claimed.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};

use sqlx::{Error as SqlxError, Row as _, SqliteConnection, query, query_as, query_scalar, sqlite::SqliteRow};

use crate::{
    id::{DeliveryId, EventId, LeaseToken, SessionId},
    origin::Origin,
    retry::{Backoff, Policy},
    store::{Blame, Claim, Claimed, Claims, Exchanged, Lapsed, Lease, Settlement, pick},
    time,
};

use super::{counts::Counts, push::to_json, settle::settle, suspects, writer::Running};

/// The `due_at` of a delivery that waits for another of its order key.
pub(super) const NEVER: i64 = i64::MAX;

/// The catalogue's generation; zero, which is none, where its row is missing.
pub(super) async fn generation(conn: &mut SqliteConnection) -> Result<u64, SqlxError> {
    let generation: Option<i64> = query_scalar("select catalogue from evented_schema").fetch_optional(conn).await?;
    Ok(generation.unwrap_or(0).cast_unsigned())
}

/// The `due_at` of a suspect that waits is this, less one where it is exposed, or less two where it is tried singly: no time that
/// comes.
pub(super) const SUSPECT: i64 = NEVER - 2;

/// What is due, and when the next will be. Reads only: a worker that finds nothing takes no lock.
#[derive(Default)]
pub(super) struct Due {
    /// In the order in which they are to run, each with the place of its handler among the names; those whose lease has ended by the
    /// negative of their number.
    pub rows: Vec<(i64, usize)>,
    pub names: Vec<Arc<str>>,
    pub next: Option<Duration>,
    /// The catalogue's generation at that time.
    pub generation: u64,
}

/// Finds due rows of queues that are not paused. What was `given_back` just now is left for another claim.
pub(super) async fn due(
    conn: &mut SqliteConnection,
    claim: &Claim,
    given_back: &HashSet<i64>,
) -> Result<Due, SqlxError> {
    let now = time::unix_ms();
    let mut due = Due::default();
    let mut next: Option<i64> = None;
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
                    select iif(d.lease is null, d.seq, -d.seq) as seq from evented_deliveries d
                    where d.handler = n.num and d.due_at <= ?2 and d.version <= h.value ->> 1 and (d.lease is null or ?5)
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
        .bind(claim.lapsed == Lapsed::Take)
        .fetch_all(&mut *conn)
        .await?;
        let (of_handlers, generations): (Vec<_>, Vec<_>) = found.into_iter().partition(|(handler, ..)| *handler >= 0);
        // None where the row is missing: the catalogue is read then, which makes it again.
        due.generation = generations.iter().find_map(|(_, generation, _)| *generation).unwrap_or(0).cast_unsigned();
        let times = of_handlers.iter().filter_map(|(_, next, _)| *next).filter(|next| *next < SUSPECT);
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
            rows.retain(|row| !given_back.contains(&row.abs()));
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
            // A late settlement has given nothing back: the row may be another's by now, or due again.
            let settled = exchange.settlements.iter().zip(&held).filter(|(_, held)| **held);
            let given_back = settled.map(|(settled, _)| settled.lease.row).collect();
            found = self::due(conn, claim, &given_back).await?;
            &found
        };
        let claims = lease(conn, due, claim, &mut counts).await?;
        counts.write(conn).await?;
        Ok(Exchanged { held, claims, generation: Some(due.generation) })
    })
}

/// Claims what is due.
pub(super) async fn claim(conn: &mut SqliteConnection, claim: &Claim) -> Result<Claims, SqlxError> {
    let due = due(conn, claim, &HashSet::new()).await?;
    let mut counts = Counts::default();
    let claims = lease(conn, &due, claim, &mut counts).await?;
    counts.write(conn).await?;
    Ok(claims)
}

/// Leases what is due. What its holder's death has left becomes a suspect.
async fn lease(
    conn: &mut SqliteConnection,
    due: &Due,
    claim: &Claim,
    counts: &mut Counts,
) -> Result<Claims, SqlxError> {
    if due.rows.is_empty() {
        return Ok(Claims { next_due: due.next, ..Claims::default() });
    }
    let (ended, new): (Vec<_>, Vec<_>) = due.rows.iter().map(|(row, _)| *row).partition(|row| *row < 0);
    let mut rows: Vec<i64> = new;
    let mut suspects = false;
    if !ended.is_empty() {
        let ended: Vec<i64> = ended.into_iter().map(|row| -row).collect();
        let interrupted = suspects::accuse(conn, &ended, counts).await?;
        suspects = interrupted.len() < ended.len();
        rows.extend(interrupted);
    }
    let found = due.rows.iter().enumerate();
    let names = found.map(|(place, (row, name))| (row.abs(), (place, &due.names[*name]))).collect();
    let claimed = lease_rows(conn, &rows, claim.lease, claim.session, &names, counts).await?;
    let next_due = if suspects { Some(Duration::ZERO) } else { due.next };
    Ok(Claims { deliveries: claimed, next_due, suspects })
}

/// By row: where it stands among those that were found, and its handler's name.
pub(super) type Names<'a> = HashMap<i64, (usize, &'a Arc<str>)>;

/// Leases rows whose time has come, or that are suspects, those excepted that another has leased since they were found; answers them
/// in the order in which they were found. A row comes back in few columns, since each one costs allocations on its way through
/// the driver.
pub(super) async fn lease_rows(
    conn: &mut SqliteConnection,
    rows: &[i64],
    lease: Duration,
    session: SessionId,
    names: &Names<'_>,
    counts: &mut Counts,
) -> Result<Vec<Claimed>, SqlxError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let token = LeaseToken::mint();
    let leased = query(
        "update evented_deliveries set
                lease = ?1,
                due_at = ?2,
                session = ?5,
                charges = charges + pending,
                pending = 0
             where seq in (select value from json_each(?3)) and lease is null
                and (due_at <= ?4 or due_at between ?6 and ?6 + 1)
             returning format('%d %d %d %d %d %d %d %d %d %d %d %d', handler, seq, version, emitted_at, failed, deaths, charges,
                    attempts_max, backoff_first_ms, ifnull(backoff_max_ms, -1), timeout_ms, order_key is not null),
                id || event_id, correlation, payload",
    )
    .bind(token.to_i64())
    .bind(time::due_at(lease))
    .bind(to_json(&rows)?)
    .bind(time::unix_ms())
    .bind(session.to_i64())
    .bind(SUSPECT)
    .fetch_all(conn)
    .await?;
    // An update returns rows in any order.
    let mut claimed: Vec<Option<Claimed>> = names.iter().map(|_| None).collect();
    for row in &leased {
        let (handler, delivery) = read(row, token, names)?;
        counts.leased(handler, 1);
        if let Some((place, delivery)) = delivery {
            claimed[place] = Some(delivery);
        }
    }
    Ok(claimed.into_iter().flatten().collect())
}

/// The number of a leased row's handler, and the delivery that it is, with its place.
fn read(row: &SqliteRow, token: LeaseToken, names: &Names<'_>) -> Result<(i64, Option<(usize, Claimed)>), SqlxError> {
    let numbers: &str = row.try_get(0)?;
    let mut numbers = numbers.split(' ');
    let mut next =
        || -> Result<i64, SqlxError> { numbers.next().unwrap_or_default().parse().map_err(SqlxError::decode) };
    let small = |number: i64| u32::try_from(number).map_err(SqlxError::decode);
    let (handler, seq) = (next()?, next()?);
    let (version, emitted_unix_ms, failed) = (small(next()?)?, next()?, small(next()?)?);
    let blame = Blame { deaths: small(next()?)?, charges: small(next()?)? };
    let attempts_max = small(next()?)?;
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
    let claimed = |name: &Arc<str>| Claimed {
        lease,
        event_id,
        handler: Arc::clone(name),
        origin,
        version,
        emitted_unix_ms,
        failed,
        blame,
        policy,
        payload,
    };
    Ok((handler, names.get(&seq).map(|(place, name)| (*place, claimed(name)))))
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
