//! Storing deliveries: one statement for all that is plain, a transaction where keys are looked at.

use std::collections::{HashMap, HashSet};

use sqlx::{Error as SqlxError, Row as _};

use crate::{
    id::DeliveryId,
    store::{NewDelivery, Push, Pushed},
    time,
};

use super::{
    keys,
    link::{Link, Session},
    sql::{self, NEVER, backoff_columns, version_column},
};

/// Inserts the deliveries of those pushes that were planned from the catalogue as it is, without those pushed once before,
/// and answers what the catalogue's generation is. The handlers' numbers are looked up once for each name: a number that is
/// not found is null, which the table refuses. The rows keep their order, and so do their `seq`.
const INSERT: &str = concat!(
    "with clock as materialized (select ",
    sql::now_ms!(),
    " as ms),
    schema as materialized (select catalogue from evented_schema),
    names as materialized (
        select array_agg((select h.num from evented_handlers h where h.id = n.name) order by n.ord) as nums
        from unnest($1::text[]) with ordinality n(name, ord)
    ),
    remembered as (
        insert into evented_once (id, at)
        select o.id, (select ms from clock) from unnest($2::bytea[], $3::int8[]) o(id, generation)
        where o.generation = (select catalogue from schema)
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
                $12::int4[], $13::int8[], $14::bytea[], $15::bytea[], $16::bytea[], $17::int8[], $18::bool[])
            u(handler, id, event_id, delay, attempts_max, backoff_first_ms, backoff_max_ms, timeout_ms, version,
                emitted_at, correlation, order_key, payload, generation, once)
        where u.generation in (-1, (select catalogue from schema))
            and (not u.once or u.id in (select id from remembered))
        on conflict (id) do nothing
    )
    select catalogue from schema"
);

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
    let mut generations = [0; 2];
    if !plain.is_empty() {
        let rows = Rows::of_pushes(&plain);
        generations[0] = link.run(&rows, |session, rows| Box::pin(rows.insert(session))).await?;
    }
    if !keyed.is_empty() {
        generations[1] = link.transact(&keyed, |session, keyed| Box::pin(store_keyed(session, keyed))).await?;
    }
    let answer = |push: &&Push| {
        let generation = generations[usize::from(!is_plain(push))];
        if push.generation == generation { Pushed::Stored } else { Pushed::CatalogueMoved }
    };
    Ok(pushes.iter().map(answer).collect())
}

/// Stores deliveries of which some have keys; answers the generation.
async fn store_keyed(session: &mut Session, pushes: &[&Push]) -> Result<u64, SqlxError> {
    let generation = super::catalogue::generation(session).await?;
    let planned: Vec<_> = pushes.iter().filter(|push| push.generation == generation).collect();
    let once = planned.iter().filter(|push| push.once).flat_map(|push| push.deliveries.iter());
    let repeated = remember(session, once.map(|delivery| delivery.id).collect()).await?;
    let deliveries = planned.iter().flat_map(|push| push.deliveries.iter());
    let new: Vec<_> = deliveries.filter(|delivery| !repeated.contains(&delivery.id)).collect();
    insert_new(session, new).await?;
    Ok(generation)
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
    let mut rows = Rows::default();
    for delivery in new {
        rows.add(delivery, LOOKED_AT, false);
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
    once_generations: Vec<i64>,
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
    generations: Vec<i64>,
    once: Vec<bool>,
}

impl<'d> Rows<'d> {
    fn of_pushes(pushes: &[&'d Push]) -> Self {
        let mut rows = Self::default();
        let mut once = Vec::new();
        for push in pushes {
            for delivery in push.deliveries.iter() {
                rows.add(delivery, push.generation.cast_signed(), push.once);
                if push.once {
                    once.push((delivery.id.to_bytes(), push.generation.cast_signed()));
                }
            }
        }
        // In one order, so that two who repeat the same push wait for each other and not in a ring.
        once.sort_unstable();
        (rows.once_ids, rows.once_generations) = once.into_iter().unzip();
        rows
    }

    fn add(&mut self, delivery: &'d NewDelivery, generation: i64, once: bool) {
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
        self.generations.push(generation);
        self.once.push(once);
    }

    async fn insert(&self, session: &mut Session) -> Result<u64, SqlxError> {
        let row = session
            .sql(INSERT)
            .bind(&self.names)
            .bind(&self.once_ids)
            .bind(&self.once_generations)
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
            .bind(&self.order)
            .bind(&self.payloads)
            .bind(&self.generations)
            .bind(&self.once)
            .fetch_one(&mut session.conn)
            .await?;
        Ok(row.try_get::<i64, _>(0)?.cast_unsigned())
    }
}
