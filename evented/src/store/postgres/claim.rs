//! Claiming: what is due, taken evenly and by priority, without waiting for rows that others have in hand.

use std::sync::Arc;

use sqlx::{Error as SqlxError, Row as _, postgres::PgRow};

use crate::{
    id::{DeliveryId, EventId, LeaseToken},
    retry::Policy,
    store::{Claim, Claimed, Claims, Lease},
    time,
};

use super::{
    link::Sql,
    sql::{self, backoff, version_column},
};

/// The common table expressions of a claim: `leased` are the deliveries, `asked_for` is a row with when to look again.
///
/// 1. `asked`: the handlers whose queues are not paused. 2. `found`: how many of each are due, up to one more than there is
///    room for, and when the next will be. 3. `taken`: how many to take of each; the turns go round the handlers of one
///    priority, as `pick` in store.rs does. 4. `picked`: so many of each, the oldest first, those excepted that others have
///    in hand. 5. `leased`.
///
/// `$except` is what must hold of a delivery besides; `$asynchronously` is another column of the clock's.
macro_rules! claim {
    ($asynchronously:literal, $except:literal) => {
        concat!(
            "clock as materialized (select ", sql::now_ms!(), " as ms", $asynchronously, "),
    asked as materialized (
        select a.ord, a.version, a.wanted, a.queue, a.room, a.priority, h.num
        from unnest($1::text[], $2::int4[], $3::int8[], $4::int4[], $5::text[], $6::int8[], $7::int2[]) with ordinality
            a(name, version, wanted, queue, queue_name, room, priority, ord)
        cross join lateral (select h.num from evented_handlers h where h.id = a.name offset 0) h
        where coalesce((select not q.paused from evented_queues q where q.name = a.queue_name), true)
    ),
    found as materialized (
        select a.*,
            (select count(*) from (
                select from evented_deliveries d
                where d.handler = a.num and d.due_at <= (select ms from clock) and d.version <= a.version ", $except, "
                limit a.room + 1) due) as due,
            (select d.due_at from evented_deliveries d
                where d.handler = a.num and d.due_at > (select ms from clock) and d.due_at < 9223372036854775807
                order by d.due_at limit 1) as next
        from asked a
    ),
    asked_for as (
        select case when bool_or(q.more) then 0 else min(q.next) - (select ms from clock) end as next_in
        from (
            select sum(least(f.due, f.wanted)) > max(f.room) or bool_or(f.due > f.wanted and f.wanted >= f.room) as more,
                min(f.next) as next
            from found f group by f.queue
        ) q
    ),
    turns as (
        select f.ord, f.num, f.version, f.room,
            row_number() over (partition by f.queue order by f.priority desc, turn, f.ord) as place
        from found f cross join lateral generate_series(1, least(f.due, f.wanted)) turn
    ),
    taken as materialized (
        select t.ord, t.num, t.version, count(*) as take from turns t where t.place <= t.room
        group by t.ord, t.num, t.version order by t.ord
    ),
    picked as materialized (
        select t.ord, d.at, row_number() over () as place
        from taken t cross join lateral (
            select d.ctid as at from evented_deliveries d
            where d.handler = t.num and d.due_at <= (select ms from clock) and d.version <= t.version ", $except, "
            order by d.due_at, d.seq limit t.take for update skip locked) d
    ),
    leased as (
        update evented_deliveries d set
            lease = $8,
            due_at = (select ms from clock) + $9,
            deaths = d.deaths + (d.lease is not null and d.alone = 2)::int4,
            alone = (d.lease is not null or d.alone > 0)::int4
        from picked p where d.ctid = p.at
        returning p.place, p.ord, d.seq, d.id, d.event_id, d.correlation, d.version, d.emitted_at, d.failed, d.alone,
            d.deaths, d.attempts_max, d.backoff_first_ms, d.backoff_max_ms, d.timeout_ms, d.order_key is not null,
            d.payload
    )"
        )
    };
}

pub(super) use claim;

/// Claims alone. Where nothing is due it writes nothing.
///
/// Its commit does not wait for the disk. A claim that a crash of the server undoes is a lease that nobody there knows: the
/// delivery is due again, and the settlement of whoever runs it comes late. What a claim leads to, a settlement, is on disk
/// no sooner than the claim before it.
pub(super) const CLAIM: &str = concat!(
    "with ",
    claim!(", set_config('synchronous_commit', 'off', true)", ""),
    " select a.next_in, l.* from asked_for a left join leased l on true"
);

/// Claims in a transaction, which decides itself what it waits for.
pub(super) const CLAIM_BESIDE: &str =
    concat!("with ", claim!("", ""), " select a.next_in, l.* from asked_for a left join leased l on true");

/// Binds the nine values of a claim.
pub(super) fn bind(statement: Sql, claim: &Claim, token: LeaseToken) -> Sql {
    let queues = || (0_i32..).zip(&claim.queues);
    let handlers =
        || queues().flat_map(|(number, queue)| queue.handlers.iter().map(move |handler| (number, queue, handler)));
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX).min(COUNT_MAX);
    statement
        .bind(handlers().map(|(.., handler)| &*handler.name).collect::<Vec<_>>())
        .bind(handlers().map(|(.., handler)| version_column(handler.version)).collect::<Vec<_>>())
        .bind(handlers().map(|(.., handler)| count(handler.wanted)).collect::<Vec<_>>())
        .bind(handlers().map(|(number, ..)| number).collect::<Vec<_>>())
        .bind(handlers().map(|(_, queue, _)| &*queue.name).collect::<Vec<_>>())
        .bind(handlers().map(|(_, queue, _)| count(queue.wanted)).collect::<Vec<_>>())
        .bind(handlers().map(|(.., handler)| handler.priority as i16).collect::<Vec<_>>())
        .bind(token.to_i64())
        .bind(time::delay_ms(claim.lease))
}

/// More are never claimed at once.
const COUNT_MAX: i64 = 100_000;

/// Reads what a claim answered. Its columns begin at `at`.
pub(super) fn read(rows: &[PgRow], at: usize, claim: &Claim, token: LeaseToken) -> Result<Claims, SqlxError> {
    let names: Vec<_> = claim.queues.iter().flat_map(|queue| &queue.handlers).map(|handler| &handler.name).collect();
    let Some(first) = rows.first() else { return Ok(Claims::default()) };
    let next_in: Option<i64> = first.try_get(at)?;
    let mut deliveries = Vec::with_capacity(rows.len());
    for row in rows {
        // Without a delivery there is still one row.
        if let Some(place) = row.try_get::<Option<i64>, _>(at + 1)? {
            deliveries.push((place, read_one(row, at + 2, &names, token)?));
        }
    }
    // An update returns rows in any order; run them in the order in which they were due.
    deliveries.sort_unstable_by_key(|(place, _)| *place);
    Ok(Claims {
        deliveries: deliveries.into_iter().map(|(_, claimed)| claimed).collect(),
        next_due: next_in.map(time::from_millis),
    })
}

fn read_one(row: &PgRow, at: usize, names: &[&Arc<str>], token: LeaseToken) -> Result<Claimed, SqlxError> {
    let ord = usize::try_from(row.try_get::<i64, _>(at)?).map_err(SqlxError::decode)?;
    let name = names.get(ord - 1).ok_or_else(|| SqlxError::decode("a handler that was not asked for"))?;
    let event_id = EventId::from_bytes(row.try_get(at + 3)?);
    let correlation: Option<[u8; 16]> = row.try_get(at + 4)?;
    Ok(Claimed {
        lease: Lease {
            delivery: DeliveryId::from_bytes(row.try_get(at + 2)?),
            row: row.try_get(at + 1)?,
            token,
            ordered: row.try_get(at + 14)?,
        },
        event_id,
        handler: Arc::clone(name),
        correlation: correlation.map_or(event_id, EventId::from_bytes),
        version: row.try_get::<i32, _>(at + 5)?.cast_unsigned(),
        emitted_unix_ms: row.try_get(at + 6)?,
        failed: row.try_get::<i32, _>(at + 7)?.cast_unsigned(),
        lost: row.try_get::<i16, _>(at + 8)? > 0,
        deaths: row.try_get::<i32, _>(at + 9)?.cast_unsigned(),
        policy: Policy {
            attempts_max: row.try_get::<i32, _>(at + 10)?.cast_unsigned(),
            backoff: backoff(row.try_get(at + 11)?, row.try_get(at + 12)?),
            timeout: time::from_millis(row.try_get(at + 13)?),
        },
        payload: row.try_get(at + 15)?,
    })
}
