//! Deliveries: push, claim, extend, settle.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    sync::{Arc, LazyLock},
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, Error as SqlxError, Row as _, SqliteConnection, query, query_as, query_scalar, sqlite::SqliteRow,
};

use crate::{
    id::{DeliveryId, EventId, Key, LeaseToken},
    origin::Origin,
    retry::{Backoff, Policy},
    store::{
        Claim, Claimed, Claims, Exchanged, Lease, NewDelivery, Outcome, Push, Pushed, Settlement, UniqueKey, pick,
    },
    time,
};

use super::writer::Running;

/// The `due_at` of a delivery that waits for another of its order key.
pub(super) const NEVER: i64 = i64::MAX;

/// How many rows one insert has. Few shapes, so that each is prepared once; SQLite binds at most 32,766 values.
const SHAPES: [usize; 3] = [64, 8, 1];

static INSERTS: LazyLock<[Arc<str>; 3]> = LazyLock::new(|| {
    SHAPES.map(|rows| {
        let row = "((select num from evented_handlers where id = ?), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let rows = vec![row; rows].join(", ");
        format!(
            "insert into evented_deliveries (handler, id, event_id, due_at, attempts_max, backoff_first_ms, \
             backoff_max_ms, timeout_ms, version, emitted_at, correlation, payload) values {rows} \
             on conflict (id) do nothing"
        )
        .into()
    })
});

/// Inserts the deliveries of each push that was planned from the catalogue as it is.
pub(super) async fn push(conn: &mut SqliteConnection, pushes: &[&Push]) -> Result<Vec<Pushed>, SqlxError> {
    if pushes.is_empty() {
        return Ok(Vec::new());
    }
    let generation = generation(conn).await?;
    let answers: Vec<_> = pushes
        .iter()
        .map(|push| if push.generation == generation { Pushed::Stored } else { Pushed::CatalogueMoved })
        .collect();
    let planned: Vec<_> = pushes.iter().filter(|push| push.generation == generation).collect();
    let once = planned.iter().filter(|push| push.once).flat_map(|push| push.deliveries.iter());
    let repeated = remember(conn, once.map(|delivery| delivery.id).collect()).await?;
    let deliveries = planned.iter().flat_map(|push| push.deliveries.iter());
    insert(conn, deliveries.filter(|delivery| !repeated.contains(&delivery.id))).await?;
    Ok(answers)
}

/// Remembers deliveries whose push may be repeated; answers those that were remembered before.
async fn remember(
    conn: &mut SqliteConnection,
    mut deliveries: HashSet<DeliveryId>,
) -> Result<HashSet<DeliveryId>, SqlxError> {
    if deliveries.is_empty() {
        return Ok(deliveries);
    }
    let new: Vec<Vec<u8>> = query_scalar(
        "insert into evented_once (id, at) select unhex(value), ?2 from json_each(?1) where true
         on conflict do nothing returning id",
    )
    .bind(hex_json(&deliveries))
    .bind(time::unix_ms())
    .fetch_all(conn)
    .await?;
    for id in new {
        deliveries.remove(&DeliveryId::from_bytes(id_bytes(&id)?));
    }
    Ok(deliveries)
}

pub(super) fn forget<'a>(conn: &'a mut SqliteConnection, deliveries: &'a Vec<DeliveryId>) -> Running<'a, ()> {
    Box::pin(async move {
        query("delete from evented_once where id in (select unhex(value) from json_each(?))")
            .bind(hex_json(deliveries))
            .execute(conn)
            .await?;
        Ok(())
    })
}

fn hex_json<'a>(deliveries: impl IntoIterator<Item = &'a DeliveryId>) -> String {
    let hex = |delivery: &DeliveryId| format!("\"{:032x}\"", u128::from_be_bytes(delivery.to_bytes()));
    format!("[{}]", deliveries.into_iter().map(hex).collect::<Vec<_>>().join(","))
}

pub(super) async fn generation(conn: &mut SqliteConnection) -> Result<u64, SqlxError> {
    let generation: i64 = query_scalar("select catalogue from evented_schema").fetch_one(conn).await?;
    Ok(generation.cast_unsigned())
}

/// Inserts deliveries, those excepted whose unique key another has.
pub(super) async fn insert(
    conn: &mut SqliteConnection,
    deliveries: impl Iterator<Item = &NewDelivery>,
) -> Result<(), SqlxError> {
    let now = time::unix_ms();
    let mut plain = Vec::new();
    for delivery in deliveries {
        if let Some(unique) = delivery.unique
            && !takes_key(conn, delivery.id, unique, now).await?
        {
            continue;
        }
        match delivery.order {
            Some(key) => insert_ordered(conn, delivery, key, now).await?,
            None => plain.push(delivery),
        }
    }
    let mut rest = &plain[..];
    for (rows, sql) in SHAPES.into_iter().zip(INSERTS.iter()) {
        while let Some((chunk, after)) = rest.split_at_checked(rows) {
            let mut insert = query(AssertSqlSafe(Arc::clone(sql)));
            for delivery in chunk {
                insert = bind(insert, delivery, time::due_at(delivery.delay), now);
            }
            insert.execute(&mut *conn).await?;
            rest = after;
        }
    }
    Ok(())
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

/// Inserts a delivery that waits for those of its order key before it.
async fn insert_ordered(
    conn: &mut SqliteConnection,
    delivery: &NewDelivery,
    key: Key,
    now: i64,
) -> Result<(), SqlxError> {
    let due_at = time::due_at(delivery.delay);
    let sql = "insert into evented_deliveries (handler, id, event_id, own_due_at, attempts_max, backoff_first_ms,
            backoff_max_ms, timeout_ms, version, emitted_at, correlation, payload, order_key, due_at)
         values ((select num from evented_handlers where id = ?1), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13,
            iif(exists (select 1 from evented_deliveries where order_key = ?13), ?14, ?4))
         on conflict (id) do nothing";
    bind(query(sql), delivery, due_at, now).bind(bytes(key.to_bytes())).bind(NEVER).execute(conn).await?;
    Ok(())
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

/// What is due, and when the next will be. Reads only: a worker that finds nothing takes no lock.
#[derive(Default)]
pub(super) struct Due {
    /// In the order in which they are to run, each with the place of its handler among the names.
    pub rows: Vec<(i64, usize)>,
    names: Vec<Arc<str>>,
    pub next: Option<Duration>,
}

/// Finds due rows of queues that are not paused. What was `settled` just now is left for another claim.
pub(super) async fn due(conn: &mut SqliteConnection, claim: &Claim, settled: &[Settlement]) -> Result<Due, SqlxError> {
    let now = time::unix_ms();
    let mut due = Due::default();
    let mut next: Option<i64> = None;
    let given_back = |settled: &&Settlement| matches!(settled.outcome, Outcome::Released | Outcome::Retry { .. });
    let given_back: HashSet<i64> = settled.iter().filter(given_back).map(|settled| settled.lease.row).collect();
    for queue in &claim.queues {
        let asked: Vec<_> = queue.handlers.iter().map(|handler| (&*handler.name, handler.version)).collect();
        // For each handler one descent of the index: its next time, and the oldest due rows as a list.
        let found: Vec<(i64, Option<i64>, String)> = query_as(
            "select h.key,
                (select min(d.due_at) from evented_deliveries d where d.handler = n.num and d.due_at > ?2),
                (select json_group_array(seq) from (
                    select d.seq from evented_deliveries d
                    where d.handler = n.num and d.due_at <= ?2 and d.version <= h.value ->> 1
                    order by d.due_at, d.seq limit ?3))
             from json_each(?1) h join evented_handlers n on n.id = h.value ->> 0
             where not exists (select 1 from evented_queues q where q.name = ?4 and q.paused)",
        )
        .bind(to_json(&asked)?)
        .bind(now)
        // One more than wanted, to know whether there is more; and as many as are left out of what is found.
        .bind(i64::try_from(queue.wanted.saturating_add(1 + given_back.len())).unwrap_or(i64::MAX))
        .bind(&*queue.name)
        .fetch_all(&mut *conn)
        .await?;
        let times = found.iter().filter_map(|(_, next, _)| *next).filter(|next| *next < NEVER);
        next = next.into_iter().chain(times).min();
        let mut lists: Vec<Vec<(i64, usize)>> = vec![Vec::new(); queue.handlers.len()];
        let first_name = due.names.len();
        due.names.extend(queue.handlers.iter().map(|handler| Arc::clone(&handler.name)));
        let mut left = false;
        for (handler, _, rows) in found {
            let handler = usize::try_from(handler).map_err(SqlxError::decode)?;
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
        let held = settle(conn, &exchange.settlements).await?;
        let claims = match (&exchange.claim, &exchange.due) {
            (Some(claim), Some(due)) => lease(conn, due, claim.lease).await?,
            (Some(claim), None) => self::claim(conn, claim, &exchange.settlements).await?,
            (None, _) => Claims::default(),
        };
        Ok(Exchanged { held, claims, ..Exchanged::default() })
    })
}

/// Claims what is due. What was `settled` just now is left for another claim.
pub(super) async fn claim(
    conn: &mut SqliteConnection,
    claim: &Claim,
    settled: &[Settlement],
) -> Result<Claims, SqlxError> {
    let due = due(conn, claim, settled).await?;
    lease(conn, &due, claim.lease).await
}

/// Leases rows that are due. A row comes back in few columns, since each one costs allocations on its way through the driver.
async fn lease(conn: &mut SqliteConnection, due: &Due, lease: Duration) -> Result<Claims, SqlxError> {
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
                alone = lease is not null or alone > 0
             where seq in (select value from json_each(?3)) and due_at <= ?4
             returning format('%d %d %d %d %d %d %d %d %d %d %d', seq, version, emitted_at, failed, alone, deaths,
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
        let (row, read) = read(row, token)?;
        let Some(&place) = places.get(&row) else { continue };
        let (_, name) = due.rows[place];
        claimed[place] = Some(read(Arc::clone(&due.names[name])));
    }
    Ok(Claims { deliveries: claimed.into_iter().flatten().collect(), next_due: due.next })
}

/// A leased row's number, and the delivery that it is for the handler of a name.
fn read(row: &SqliteRow, token: LeaseToken) -> Result<(i64, impl FnOnce(Arc<str>) -> Claimed), SqlxError> {
    let numbers: &str = row.try_get(0)?;
    let mut numbers = numbers.split(' ');
    let mut next =
        || -> Result<i64, SqlxError> { numbers.next().unwrap_or_default().parse().map_err(SqlxError::decode) };
    let small = |number: i64| u32::try_from(number).map_err(SqlxError::decode);
    let seq = next()?;
    let (version, emitted_unix_ms, failed) = (small(next()?)?, next()?, small(next()?)?);
    let (lost, deaths, attempts_max) = (next()? != 0, small(next()?)?, small(next()?)?);
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
fn fence<'a>(leases: impl Iterator<Item = &'a Lease>) -> String {
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

/// Settles what is still held; the answer says which was. Completions, which are most, take one statement together.
async fn settle(conn: &mut SqliteConnection, settlements: &[Settlement]) -> Result<Vec<bool>, SqlxError> {
    let mut held = Vec::with_capacity(settlements.len());
    // By handler: done, retried, dead.
    let mut counts: HashMap<i64, [i64; 3]> = HashMap::new();
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
            counts.entry(next()?).or_default()[0] += 1;
            if let Some(key) = row.try_get::<Option<&[u8]>, _>(1)? {
                release_next(conn, key).await?;
            }
        }
    }
    for Settlement { lease, outcome } in settlements {
        let (handler, column) = match outcome {
            Outcome::Completed => {
                held.push(deletions.contains(&(lease.row, lease.token.to_i64())));
                continue;
            }
            Outcome::Retry { delay, error } => (retry(conn, *lease, *delay, error).await?, Some(1)),
            Outcome::Dead { failed, error } => (bury(conn, *lease, *failed, error).await?, Some(2)),
            Outcome::Released => (release(conn, *lease).await?, None),
        };
        held.push(handler.is_some());
        if let (Some(handler), Some(column)) = (handler, column) {
            counts.entry(handler).or_default()[column] += 1;
        }
    }
    for (handler, [done, retried, dead]) in counts {
        count(conn, handler, done, retried, dead).await?;
    }
    Ok(held)
}

pub(super) async fn count(
    conn: &mut SqliteConnection,
    handler: i64,
    done: i64,
    retried: i64,
    dead: i64,
) -> Result<(), SqlxError> {
    query("update evented_handlers set done = done + ?2, retried = retried + ?3, dead = dead + ?4 where num = ?1")
        .bind(handler)
        .bind(done)
        .bind(retried)
        .bind(dead)
        .execute(conn)
        .await?;
    Ok(())
}

async fn retry(
    conn: &mut SqliteConnection,
    lease: Lease,
    delay: Duration,
    error: &str,
) -> Result<Option<i64>, SqlxError> {
    query_scalar(
        "update evented_deliveries set lease = null, alone = 0, failed = failed + 1, due_at = ?3, error = ?4
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
    query_scalar(
        "update evented_deliveries set lease = null, alone = alone > 0, due_at = ?3 where seq = ?1 and lease = ?2 returning handler",
    )
    .bind(lease.row)
    .bind(lease.token.to_i64())
    .bind(time::unix_ms())
    .fetch_optional(conn)
    .await
}
