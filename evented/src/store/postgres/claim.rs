//! Claiming: what is due, taken evenly and by priority, without waiting for rows that others have in hand.

use std::sync::Arc;

use sqlx::{Error as SqlxError, Row as _, postgres::PgRow};

use crate::{
    id::{DeliveryId, EventId, LeaseToken},
    origin::Origin,
    retry::Policy,
    store::{Blame, Claim, Claimed, Claims, Lapsed, Lease},
    time,
};

use super::{
    floors,
    link::Sql,
    sql::{self, backoff, version_column},
};

/// The common table expressions of a claim: `leased` are the deliveries, `asked_for` is a row with when to look again.
///
/// 1. `asked`: the handlers whose queues are not paused. 2. `found`: how many of each are due, up to one more than there is
///    room for, and when the next will be. 3. `taken`: how many to take of each; the turns go round the handlers of one
///    priority, as `pick` in store.rs does. 4. `picked`: so many of each, the oldest first, those excepted that others have
///    in hand. 5. `leased`: those of them that nobody has leased. The others' leases have ended, and what becomes of them is
///    looked at by itself (`suspects.rs`): this statement only says which they are.
///
/// `$except` is what must hold of a delivery besides; `$asynchronously` is another column of the clock's.
macro_rules! claim {
    ($asynchronously:literal, $except:literal) => {
        concat!(
            "clock as materialized (select ", sql::now_ms!(), " as ms", $asynchronously, "),
    asked as materialized (
        select a.ord, a.version, a.wanted, a.queue, a.room, a.priority, a.floor, h.num
        from unnest($1::text[], $2::int4[], $3::int8[], $4::int4[], $5::text[], $6::int8[], $7::int2[], $10::int8[])
            with ordinality a(name, version, wanted, queue, queue_name, room, priority, floor, ord)
        cross join lateral (select h.num from evented_handlers h where h.id = a.name offset 0) h
        where coalesce((select not q.paused from evented_queues q where q.name = a.queue_name), true)
    ),
    found as materialized (
        select a.*, o.due, o.first,
            case when a.floor = 0 and o.due <= a.room then (
                select d.due_at from evented_deliveries d
                where d.handler = a.num and d.due_at > (select ms from clock) and d.due_at < 9223372036854775805
                order by d.due_at limit 1) end as next
        from asked a cross join lateral (
            select count(*) as due, min(o.due_at) as first from (
                select d.due_at from evented_deliveries d
                where d.handler = a.num and d.due_at between a.floor and (select ms from clock)
                    and d.version <= a.version and (d.lease is null or $12::bool) ", $except, "
                order by d.due_at, d.seq limit a.room + 1) o) o
    ),
    turns as (
        select f.ord, f.num, f.version, f.room, f.floor,
            row_number() over (partition by f.queue order by f.priority desc, turn, f.ord) as place
        from found f cross join lateral generate_series(1, least(f.due, f.wanted)) turn
    ),
    taken as materialized (
        select t.ord, t.num, t.version, t.floor, count(*) as take from turns t where t.place <= t.room
        group by t.ord, t.num, t.version, t.floor order by t.ord
    ),
    picked as materialized (
        select t.ord, d.at, d.ended, row_number() over () as place
        from taken t cross join lateral (
            select d.ctid as at, case when d.lease is not null then d.id end as ended from evented_deliveries d
            where d.handler = t.num and d.due_at between t.floor and (select ms from clock)
                and d.version <= t.version and (d.lease is null or $12::bool) ", $except, "
            order by d.due_at, d.seq limit t.take for update skip locked) d
    ),
    asked_for as (
        select case when bool_or(q.more) then 0 else min(q.next) - (select ms from clock) end as next_in,
            coalesce((select s.catalogue from evented_schema s), 0) as generation,
            (select array_agg(f.ord order by f.ord) from found f) as ords,
            (select array_agg(coalesce(f.first, (select ms from clock)) order by f.ord) from found f) as firsts,
            coalesce((select min(p.place) from picked p where p.ended is null), 0) as first,
            (select array_agg(p.ended order by p.place) from picked p where p.ended is not null) as ended
        from (
            select sum(least(f.due, f.wanted)) > max(f.room) or bool_or(f.due > f.wanted and f.wanted >= f.room) as more,
                min(f.next) as next
            from found f group by f.queue
        ) q
    ),
    leased as (
        update evented_deliveries d set lease = $8, due_at = (select ms from clock) + $9, session = $11
        from picked p where d.ctid = p.at and p.ended is null
        returning p.place, p.ord, ", super::claim::columns!(), "
    )"
        )
    };
}

/// What is read of a leased delivery `d`.
macro_rules! columns {
    () => {
        "d.handler, d.seq, d.id, d.event_id, d.correlation, d.version, d.emitted_at, d.failed, d.deaths, d.charges, \
            d.attempts_max, d.backoff_first_ms, d.backoff_max_ms, d.timeout_ms, d.order_key is not null, d.payload"
    };
}

/// The columns of a claim's answer. What is said once stands in the first row alone.
macro_rules! answer {
    () => {
        "a.next_in, a.generation, case when coalesce(l.place, a.first) = a.first then a.ords end, \
            case when coalesce(l.place, a.first) = a.first then a.firsts end, \
            case when coalesce(l.place, a.first) = a.first then a.ended end, l.*"
    };
}

/// Counts what a claim has leased.
macro_rules! counted {
    () => {
        "counted as (
        insert into evented_counts (handler, done, retried, dead, running)
        select l.handler, 0, 0, 0, count(*) from leased l group by l.handler
    )"
    };
}

pub(super) use {answer, claim, columns};

/// Claims alone. Where nothing is due it writes nothing.
///
/// Its commit does not wait for the disk. A claim that a crash of the server undoes is a lease that nobody there knows: the
/// delivery is due again, and the settlement of whoever runs it comes late. What a claim leads to, a settlement, is on disk
/// no sooner than the claim before it.
pub(super) const CLAIM: &str = concat!(
    "with ",
    claim!(", set_config('synchronous_commit', 'off', true)", ""),
    ", ",
    counted!(),
    " select ",
    answer!(),
    " from asked_for a left join leased l on true"
);

/// Claims in a transaction, which decides itself what it waits for. What that gave back, `$13`, is another claim's.
pub(super) const CLAIM_BESIDE: &str = concat!(
    "with ",
    claim!("", "and d.id <> all($13::bytea[])"),
    ", ",
    counted!(),
    " select ",
    answer!(),
    " from asked_for a left join leased l on true"
);

/// Binds the twelve values of a claim.
pub(super) fn bind(statement: Sql, Asked { claim, floors, lapsed }: &Asked<'_>, token: LeaseToken) -> Sql {
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
        .bind(floors)
        .bind(claim.session.to_i64())
        .bind(*lapsed == Lapsed::Take)
}

/// A claim as it is sent.
pub(super) struct Asked<'c> {
    pub claim: &'c Claim,
    /// By handler: nothing is looked for that was due before.
    pub floors: Vec<i64>,
    pub lapsed: Lapsed,
}

/// What it came to.
#[derive(Default)]
pub(super) struct Answer {
    pub claims: Claims,
    /// Those whose lease has ended, in the order in which they would have been claimed.
    pub ended: Vec<[u8; 16]>,
    /// The catalogue's; 0 where it is gone.
    pub generation: Option<u64>,
    /// By handler: since when its oldest was due, or now; `None` where it was not looked at.
    pub firsts: Vec<Option<i64>>,
}

/// More are never claimed at once.
const COUNT_MAX: i64 = 100_000;

/// Reads what a claim answered. Its columns begin at `at`.
pub(super) fn read(rows: &[PgRow], at: usize, claim: &Claim, token: LeaseToken) -> Result<Answer, SqlxError> {
    let names: Vec<_> = floors::handlers(claim).map(|handler| &handler.name).collect();
    let Some(first) = rows.first() else { return Ok(Answer::default()) };
    let next_in: Option<i64> = first.try_get(at)?;
    let generation = Some(first.try_get::<i64, _>(at + 1)?.cast_unsigned());
    let ended = first.try_get::<Option<_>, _>(at + 4)?.unwrap_or_default();
    let mut firsts = vec![None; names.len()];
    let mut deliveries = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(ords) = row.try_get::<Option<Vec<i64>>, _>(at + 2)? {
            for (ord, first) in ords.into_iter().zip(row.try_get::<Vec<i64>, _>(at + 3)?) {
                firsts[ordinal(ord, names.len())?] = Some(first);
            }
        }
        // Without a delivery there is still one row.
        if let Some(place) = row.try_get::<Option<i64>, _>(at + 5)? {
            let name = names[ordinal(row.try_get(at + 6)?, names.len())?];
            deliveries.push((place, read_one(row, at + 7, Arc::clone(name), token)?));
        }
    }
    // An update returns rows in any order; run them in the order in which they were due.
    deliveries.sort_unstable_by_key(|(place, _)| *place);
    let claims = Claims {
        deliveries: deliveries.into_iter().map(|(_, claimed)| claimed).collect(),
        next_due: next_in.map(time::from_millis),
        suspects: false,
    };
    Ok(Answer { claims, ended, generation, firsts })
}

fn ordinal(ord: i64, count: usize) -> Result<usize, SqlxError> {
    let at = usize::try_from(ord - 1).ok().filter(|at| *at < count);
    at.ok_or_else(|| SqlxError::decode("a handler that was not asked for"))
}

/// Reads the [`columns`](columns!) of a delivery, which begin at `at`.
pub(super) fn read_one(row: &PgRow, at: usize, handler: Arc<str>, token: LeaseToken) -> Result<Claimed, SqlxError> {
    let event_id = EventId::from_bytes(row.try_get(at + 3)?);
    let number = |column: usize| row.try_get::<i32, _>(at + column).map(i32::cast_unsigned);
    Ok(Claimed {
        lease: Lease {
            delivery: DeliveryId::from_bytes(row.try_get(at + 2)?),
            row: row.try_get(at + 1)?,
            token,
            ordered: row.try_get(at + 14)?,
        },
        event_id,
        handler,
        origin: Origin::from_bytes(event_id, row.try_get(at + 4)?),
        version: number(5)?,
        emitted_unix_ms: row.try_get(at + 6)?,
        failed: number(7)?,
        blame: Blame { deaths: number(8)?, charges: number(9)? },
        policy: Policy {
            attempts_max: number(10)?,
            backoff: backoff(row.try_get(at + 11)?, row.try_get(at + 12)?),
            timeout: time::from_millis(row.try_get(at + 13)?),
        },
        payload: row.try_get::<&[u8], _>(at + 15)?.into(),
    })
}
