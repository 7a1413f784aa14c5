//! Storing deliveries: one statement for all that is plain, a transaction where keys are looked at.

use std::collections::{HashMap, HashSet};

use sqlx::{Error as SqlxError, Row as _};

use crate::{
    id::DeliveryId,
    store::{NewDelivery, ONCE_FINISHED, ONCE_RETENTION, Push, Pushed},
    time,
};

use super::{
    keys,
    link::{Link, Session},
    sql::{self, NEVER, backoff_columns, version_column},
};

/// Inserts the deliveries of those pushes that were planned from the catalogue as it is and are not over, without those pushed
/// once before, and answers what the catalogue's generation is, and the clock. The handlers' numbers are looked up once for each
/// name: a number that is not found is null, which the table refuses. The rows keep their order, and so do their `seq`.
macro_rules! insert {
    ($more:expr) => {
        concat!(
            "with clock as materialized (select ",
            sql::now_ms!(),
            " as ms),
    schema as materialized (select catalogue from evented_schema),
    names as materialized (
        select array_agg((select h.num from evented_handlers h where h.id = n.name) order by n.ord) as nums
        from unnest($1::text[]) with ordinality n(name, ord)
    ),
    pushes as materialized (
        select array_agg(coalesce(p.generation in (-1, (select catalogue from schema)), false)
            and p.until >= (select ms from clock) order by p.ord) as live
        from unnest($15::int8[], $16::int8[]) with ordinality p(generation, until, ord)
    ),
    remembered as (
        insert into evented_once (id, at)
        select o.id, (select ms from clock) from unnest($2::bytea[], $3::int4[]) o(id, push)
        where (select live from pushes)[o.push]
        on conflict do nothing returning id
    ),
    stored as (
        insert into evented_deliveries (handler, id, event_id, due_at, own_due_at, attempts_max, backoff_first_ms,
            backoff_max_ms, timeout_ms, version, emitted_at, correlation, order_key, payload)
        select (select nums from names)[u.handler], u.id, u.event_id,
            case when u.order_key is null then (select ms from clock) + u.delay else 9223372036854775807 end,
            case when u.order_key is not null then (select ms from clock) + u.delay end,
            u.attempts_max, u.backoff_first_ms, u.backoff_max_ms, u.timeout_ms, u.version,
            coalesce(u.emitted_at, (select ms from clock)), u.correlation, u.order_key, u.payload
        from unnest($4::int4[], $5::bytea[], $6::bytea[], $7::int8[], $8::int4[], $9::int8[], $10::int8[], $11::int8[],
                $12::int4[], $13::int8[], $14::bytea[], $18::bytea[], $19::bytea[], $20::int4[])
            u(handler, id, event_id, delay, attempts_max, backoff_first_ms, backoff_max_ms, timeout_ms, version,
                emitted_at, correlation, order_key, payload, push)
        where (select live from pushes)[u.push]
            and (not ($17::bool[])[u.push] or u.id in (select id from remembered))
        on conflict (id) do nothing returning handler
    ),
    counted as (
        insert into evented_counts (handler, done, retried, dead, stored)
        select s.handler, 0, 0, 0, count(*) from stored s group by s.handler
    )",
            $more,
            " select coalesce((select catalogue from schema), 0), (select ms from clock)"
        )
    };
}

const INSERT: &str = insert!("");

/// The same for pushes without keys that are planned from one generation, have no end and are not repeated: what most emits are.
/// They are looked at together.
const INSERT_ALIKE: &str = concat!(
    "with clock as materialized (select ",
    sql::now_ms!(),
    " as ms),
    schema as materialized (select catalogue from evented_schema),
    names as materialized (
        select array_agg((select h.num from evented_handlers h where h.id = n.name) order by n.ord) as nums
        from unnest($1::text[]) with ordinality n(name, ord)
    ),
    stored as (
        insert into evented_deliveries (handler, id, event_id, due_at, attempts_max, backoff_first_ms, backoff_max_ms,
            timeout_ms, version, emitted_at, correlation, payload)
        select (select nums from names)[u.handler], u.id, u.event_id, (select ms from clock) + u.delay,
            u.attempts_max, u.backoff_first_ms, u.backoff_max_ms, u.timeout_ms, u.version,
            coalesce(u.emitted_at, (select ms from clock)), u.correlation, u.payload
        from unnest($2::int4[], $3::bytea[], $4::bytea[], $5::int8[], $6::int4[], $7::int8[], $8::int8[], $9::int8[],
                $10::int4[], $11::int8[], $12::bytea[], $13::bytea[])
            u(handler, id, event_id, delay, attempts_max, backoff_first_ms, backoff_max_ms, timeout_ms, version,
                emitted_at, correlation, payload)
        where $14::int8 = (select catalogue from schema)
        on conflict (id) do nothing returning handler
    ),
    counted as (
        insert into evented_counts (handler, done, retried, dead, stored)
        select s.handler, 0, 0, 0, count(*) from stored s group by s.handler
    )
    select coalesce((select catalogue from schema), 0), (select ms from clock)"
);

/// Forgets what is finished a while from now, and deletes of what is over so much more that its number follows the work.
macro_rules! forget {
    ($ids:literal) => {
        concat!(
            "finished as (
        update evented_once o set at = (select ms from clock) - 604680000
        where o.id = any(",
            $ids,
            "::bytea[]) and o.at > (select ms from clock) - 604680000
    ),
    over as (
        delete from evented_once where id = any(array(
            select o.id from evented_once o where o.at < (select ms from clock) - 604800000
            order by o.at limit 2 * cardinality(",
            $ids,
            "::bytea[]) for update skip locked))
    )"
        )
    };
}

const _: () = assert!(
    ONCE_RETENTION.as_millis() == 604_800_000
        && (ONCE_RETENTION.as_millis() - ONCE_FINISHED.as_millis()) == 604_680_000,
    "as `forget` has it"
);

const INSERT_AND_FORGET: &str = insert!(concat!(", ", forget!("$21")));

const FORGET: &str =
    concat!("with clock as materialized (select ", sql::now_ms!(), " as ms), ", forget!("$1"), " select 1");

/// In the place of a generation: it was looked at before, in the same transaction.
const LOOKED_AT: i64 = -1;

const _: () = assert!(NEVER == 9_223_372_036_854_775_807, "as `INSERT` has it");

/// Whether a push can be stored without a look at keys.
fn is_plain(push: &Push) -> bool {
    push.deliveries.iter().all(|delivery| delivery.unique.is_none() && delivery.order.is_none())
}

/// Stores pushes in one commit; two where some are plain and some are not.
pub(super) async fn push(link: &Link, pushes: &[&Push]) -> Result<Vec<Pushed>, crate::error::StoreError> {
    let (plain, keyed): (Vec<&Push>, Vec<&Push>) = pushes.iter().partition(|push| is_plain(push));
    let mut seen = [Seen::default(); 2];
    if !plain.is_empty() {
        let rows = Rows::of_pushes(&plain);
        seen[0] = match alike(&plain) {
            Some(generation) => {
                let rows = (rows, generation);
                link.run(&rows, |session, (rows, generation)| Box::pin(rows.insert_alike(session, *generation))).await?
            }
            None => link.run(&rows, |session, rows| Box::pin(rows.insert(session))).await?,
        };
    }
    if !keyed.is_empty() {
        seen[1] = link.transact(&keyed, |session, keyed| Box::pin(store_keyed(session, keyed))).await?;
    }
    Ok(pushes.iter().map(|push| seen[usize::from(!is_plain(push))].answer(push)).collect())
}

/// The catalogue and the clock as a push met them.
#[derive(Clone, Copy, Default)]
struct Seen {
    generation: u64,
    ms: i64,
}

impl Seen {
    /// What becomes of the push; the same as `INSERT` decides.
    fn answer(self, push: &Push) -> Pushed {
        if push.until.is_some_and(|until| until.0 < self.ms) {
            Pushed::TooLate
        } else if push.generation == self.generation {
            Pushed::Stored
        } else {
            Pushed::CatalogueMoved
        }
    }
}

/// Stores deliveries of which some have keys.
async fn store_keyed(session: &mut Session, pushes: &[&Push]) -> Result<Seen, SqlxError> {
    let (generation, ms) = super::catalogue::generation(session).await?;
    let seen = Seen { generation, ms };
    let planned: Vec<_> = pushes.iter().filter(|push| seen.answer(push) == Pushed::Stored).collect();
    let once = planned.iter().filter(|push| push.once).flat_map(|push| push.deliveries.iter());
    let repeated = remember(session, once.map(|delivery| delivery.id).collect()).await?;
    let deliveries = planned.iter().flat_map(|push| push.deliveries.iter());
    let new: Vec<_> = deliveries.filter(|delivery| !repeated.contains(&delivery.id)).collect();
    insert_new(session, new).await?;
    let finished = finished(pushes);
    if !finished.is_empty() {
        session.sql(FORGET).bind(finished).execute(&mut session.conn).await?;
    }
    Ok(seen)
}

/// The deliveries that these pushes tell to be finished.
fn finished(pushes: &[&Push]) -> Vec<[u8; 16]> {
    sql::sorted(pushes.iter().flat_map(|push| push.finished.iter()).map(|id| id.to_bytes()))
}

/// Stores deliveries in the session's transaction, with a look at their keys.
pub(super) async fn insert_new(session: &mut Session, new: Vec<&NewDelivery>) -> Result<(), SqlxError> {
    let new = keys::take_unique(session, new).await?;
    if new.is_empty() {
        return Ok(());
    }
    let order: Vec<_> = new.iter().filter_map(|delivery| delivery.order).map(crate::id::Key::to_bytes).collect();
    // From here until the commit nobody else stores or ends a delivery of these keys.
    keys::lock(session, &order).await?;
    let mut rows = Rows { generations: vec![LOOKED_AT], untils: vec![i64::MAX], once: vec![false], ..Rows::default() };
    for delivery in new {
        rows.add(delivery, 1);
    }
    rows.insert(session).await?;
    keys::let_heads_go(session, &order).await
}

/// Remembers deliveries whose push may be repeated; answers those that were remembered before.
async fn remember(
    session: &mut Session,
    mut deliveries: HashSet<DeliveryId>,
) -> Result<HashSet<DeliveryId>, SqlxError> {
    if deliveries.is_empty() {
        return Ok(deliveries);
    }
    let new = session
        .sql(concat!(
            "insert into evented_once (id, at) select id, ",
            sql::now_ms!(),
            " from unnest($1::bytea[]) id on conflict do nothing returning id"
        ))
        .bind(sql::sorted(deliveries.iter().map(|id| id.to_bytes())))
        .fetch_all(&mut session.conn)
        .await?;
    for row in new {
        deliveries.remove(&DeliveryId::from_bytes(row.try_get(0)?));
    }
    Ok(deliveries)
}

/// Rows for `INSERT`, by column.
#[derive(Default)]
struct Rows<'d> {
    names: Vec<&'d str>,
    numbers: HashMap<&'d str, i32>,
    once_ids: Vec<[u8; 16]>,
    once_pushes: Vec<i32>,
    handlers: Vec<i32>,
    ids: Vec<[u8; 16]>,
    event_ids: Vec<[u8; 16]>,
    delays: Vec<i64>,
    attempts_max: Vec<i32>,
    backoff_first: Vec<i64>,
    backoff_max: Vec<Option<i64>>,
    timeouts: Vec<i64>,
    versions: Vec<i32>,
    emitted: Vec<Option<i64>>,
    origins: Vec<Option<Vec<u8>>>,
    order: Vec<Option<[u8; 16]>>,
    payloads: Vec<&'d [u8]>,
    /// To which of the pushes, from 1.
    pushes: Vec<i32>,
    generations: Vec<i64>,
    untils: Vec<i64>,
    once: Vec<bool>,
    finished: Vec<[u8; 16]>,
}

/// The generation that pushes are planned from which need no look at each.
fn alike(pushes: &[&Push]) -> Option<u64> {
    let first = pushes.first()?.generation;
    let is_alike = |push: &&Push| {
        push.generation == first && push.until.is_none() && !push.once && push.finished.is_empty() && is_plain(push)
    };
    pushes.iter().all(is_alike).then_some(first)
}

impl<'d> Rows<'d> {
    fn of_pushes(pushes: &[&'d Push]) -> Self {
        let mut rows = Self { finished: finished(pushes), ..Self::default() };
        let mut once = Vec::new();
        for (number, push) in (1..).zip(pushes) {
            rows.generations.push(push.generation.cast_signed());
            rows.untils.push(push.until.map_or(i64::MAX, |until| until.0));
            rows.once.push(push.once);
            for delivery in push.deliveries.iter() {
                rows.add(delivery, number);
                if push.once {
                    once.push((delivery.id.to_bytes(), number));
                }
            }
        }
        // In one order, so that two who repeat the same push wait for each other and not in a ring.
        once.sort_unstable();
        (rows.once_ids, rows.once_pushes) = once.into_iter().unzip();
        rows
    }

    fn add(&mut self, delivery: &'d NewDelivery, push: i32) {
        let next = i32::try_from(self.names.len() + 1).unwrap_or(i32::MAX);
        let number = *self.numbers.entry(&delivery.handler).or_insert(next);
        if number == next {
            self.names.push(&delivery.handler);
        }
        let (backoff_first, backoff_max) = backoff_columns(delivery.policy.backoff);
        self.handlers.push(number);
        self.ids.push(delivery.id.to_bytes());
        self.event_ids.push(delivery.event_id.to_bytes());
        self.delays.push(time::delay_ms(delivery.delay));
        self.attempts_max.push(delivery.policy.attempts_max.cast_signed());
        self.backoff_first.push(backoff_first);
        self.backoff_max.push(backoff_max);
        self.timeouts.push(time::millis(delivery.policy.timeout));
        self.versions.push(version_column(delivery.version));
        self.emitted.push(delivery.emitted_unix_ms);
        self.origins.push(delivery.origin.to_bytes(delivery.event_id));
        self.order.push(delivery.order.map(crate::id::Key::to_bytes));
        self.payloads.push(&delivery.payload);
        self.pushes.push(push);
    }

    async fn insert_alike(&self, session: &mut Session, generation: u64) -> Result<Seen, SqlxError> {
        let statement = session
            .sql(INSERT_ALIKE)
            .bind(&self.names)
            .bind(&self.handlers)
            .bind(&self.ids)
            .bind(&self.event_ids)
            .bind(&self.delays)
            .bind(&self.attempts_max)
            .bind(&self.backoff_first)
            .bind(&self.backoff_max)
            .bind(&self.timeouts)
            .bind(&self.versions)
            .bind(&self.emitted)
            .bind(&self.origins)
            .bind(&self.payloads)
            .bind(generation.cast_signed());
        let row = statement.fetch_one(&mut session.conn).await?;
        Ok(Seen { generation: row.try_get::<i64, _>(0)?.cast_unsigned(), ms: row.try_get(1)? })
    }

    async fn insert(&self, session: &mut Session) -> Result<Seen, SqlxError> {
        let statement = session
            .sql(if self.finished.is_empty() { INSERT } else { INSERT_AND_FORGET })
            .bind(&self.names)
            .bind(&self.once_ids)
            .bind(&self.once_pushes)
            .bind(&self.handlers)
            .bind(&self.ids)
            .bind(&self.event_ids)
            .bind(&self.delays)
            .bind(&self.attempts_max)
            .bind(&self.backoff_first)
            .bind(&self.backoff_max)
            .bind(&self.timeouts)
            .bind(&self.versions)
            .bind(&self.emitted)
            .bind(&self.origins)
            .bind(&self.generations)
            .bind(&self.untils)
            .bind(&self.once)
            .bind(&self.order)
            .bind(&self.payloads)
            .bind(&self.pushes);
        let statement = if self.finished.is_empty() { statement } else { statement.bind(&self.finished) };
        let row = statement.fetch_one(&mut session.conn).await?;
        Ok(Seen { generation: row.try_get::<i64, _>(0)?.cast_unsigned(), ms: row.try_get(1)? })
    }
}
