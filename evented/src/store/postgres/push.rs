//! Storing deliveries: one statement for all that is plain, a transaction where keys are looked at.

use std::collections::HashSet;

use sqlx::{Error as SqlxError, Row as _, postgres::PgRow};

use crate::{
    id::DeliveryId,
    store::{NewDelivery, ONCE_FINISHED, ONCE_RETENTION, Push, Pushed},
    time,
};

use super::{
    keys,
    link::{Link, Session, Sql},
    sql::{self, backoff_columns, version_column},
};

/// The clock, the catalogue's generation, and the handlers' numbers, looked up once for each name: a number that is not found is
/// null, which the table refuses.
macro_rules! read {
    () => {
        concat!(
            "with clock as materialized (select ",
            sql::now_ms!(),
            " as ms),
    schema as materialized (select catalogue from evented_schema),
    names as materialized (
        select array_agg((select h.num from evented_handlers h where h.id = n.name) order by n.ord) as nums
        from unnest($1::text[]) with ordinality n(name, ord)
    )"
        )
    };
}

/// What a delivery has of its handler and policy, which are sent once for all that have them.
macro_rules! of_kind {
    () => {
        "(select nums from names)[u.kind], ($2::int4[])[u.kind], ($3::int8[])[u.kind], ($4::int8[])[u.kind], ($5::int8[])[u.kind],
            ($6::int4[])[u.kind], u.id, u.event_id, coalesce(u.emitted_at, (select ms from clock)), u.correlation, u.payload"
    };
}

/// The columns of these.
macro_rules! columns {
    () => {
        "handler, attempts_max, backoff_first_ms, backoff_max_ms, timeout_ms, version, id, event_id, emitted_at, correlation,
            payload"
    };
}

/// Counts what was stored, and answers what the catalogue's generation is, the clock, and which were stored where it is not all.
macro_rules! count_and_answer {
    ($more:expr) => {
        concat!(
            ", counted as (
        insert into evented_counts (handler, done, retried, dead, stored)
        select s.handler, 0, 0, 0, count(*) from stored s group by s.handler
    )",
            $more,
            " select coalesce((select catalogue from schema), 0), (select ms from clock),
                case when (select count(*) from stored) < cardinality($8::bytea[]) then
                    coalesce((select array_agg(s.id) from stored s), '{}') end"
        )
    };
}

/// Inserts the deliveries of those pushes that were planned from the catalogue as it is and are not over, without those pushed
/// once before. The rows keep their order, and so do their `seq`.
macro_rules! insert {
    ($more:expr) => {
        concat!(
            read!(),
            ",
    pushes as materialized (
        select array_agg(coalesce(p.generation in (-1, (select catalogue from schema)), false)
            and p.until >= (select ms from clock) order by p.ord) as live
        from unnest($16::int8[], $17::int8[]) with ordinality p(generation, until, ord)
    ),
    remembered as (
        insert into evented_once (id, at)
        select o.id, (select ms from clock) from unnest($14::bytea[], $15::int4[]) o(id, push)
        where (select live from pushes)[o.push]
        on conflict do nothing returning id
    ),
    stored as (
        insert into evented_deliveries (",
            columns!(),
            ", due_at, own_due_at, order_key)
        select ",
            of_kind!(),
            ", case when u.order_key is null then (select ms from clock) + u.delay else 9223372036854775807 end,
            case when u.order_key is not null then (select ms from clock) + u.delay end, u.order_key
        from unnest($7::int4[], $8::bytea[], $9::bytea[], $10::int8[], $11::int8[], $12::bytea[], $13::bytea[], $19::bytea[],
                $20::int4[])
            u(kind, id, event_id, delay, emitted_at, correlation, payload, order_key, push)
        where (select live from pushes)[u.push]
            and (not ($18::bool[])[u.push] or u.id in (select id from remembered))
        on conflict (id) do nothing returning handler, id
    )",
            count_and_answer!($more)
        )
    };
}

const INSERT: &str = insert!("");

/// The same for pushes without keys that are planned from one generation, have no end and are not repeated: what most emits are.
/// They are looked at together.
const INSERT_ALIKE: &str = concat!(
    read!(),
    ", stored as (
        insert into evented_deliveries (",
    columns!(),
    ", due_at)
        select ",
    of_kind!(),
    ", (select ms from clock) + u.delay
        from unnest($7::int4[], $8::bytea[], $9::bytea[], $10::int8[], $11::int8[], $12::bytea[], $13::bytea[])
            u(kind, id, event_id, delay, emitted_at, correlation, payload)
        where $14::int8 = (select catalogue from schema)
        on conflict (id) do nothing returning handler, id
    )",
    count_and_answer!("")
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

/// Whether a push can be stored without a look at keys.
fn is_plain(push: &Push) -> bool {
    push.deliveries.iter().all(|delivery| delivery.unique.is_none() && delivery.order.is_none())
}

/// Stores pushes in one commit; two where some are plain and some are not.
pub(super) async fn push(link: &Link, pushes: &[&Push]) -> Result<Vec<Pushed>, crate::error::StoreError> {
    let (plain, keyed): (Vec<&Push>, Vec<&Push>) = pushes.iter().partition(|push| is_plain(push));
    let mut answers = [Answers::default(), Answers::default()];
    if !plain.is_empty() {
        answers[0] = if let Some(generation) = alike(&plain) {
            let rows = (Rows::of(plain.iter().flat_map(|push| push.deliveries.iter())), generation);
            link.run(&rows, |session, (rows, generation)| Box::pin(rows.insert_alike(session, *generation))).await?
        } else {
            let looked = Looked::of_pushes(&plain);
            link.run(&looked, |session, looked| Box::pin(looked.insert(session))).await?
        };
    }
    if !keyed.is_empty() {
        answers[1] = link.transact(&keyed, |session, keyed| Box::pin(store_keyed(session, keyed))).await?;
    }
    Ok(pushes.iter().map(|push| answers[usize::from(!is_plain(push))].take(push)).collect())
}

/// The catalogue and the clock as a push met them.
#[derive(Clone, Copy, Default)]
struct Seen {
    generation: u64,
    ms: i64,
}

impl Seen {
    /// Why nothing of the push is stored; the same as `INSERT` decides.
    fn refused(self, push: &Push) -> Option<Pushed> {
        if push.until.is_some_and(|until| until.0 < self.ms) {
            Some(Pushed::TooLate)
        } else {
            (push.generation != self.generation).then_some(Pushed::CatalogueMoved)
        }
    }
}

/// What is known for the answers to pushes that were stored together.
#[derive(Default)]
struct Answers {
    seen: Seen,
    /// Which deliveries were stored; `None`: all.
    stored: Option<HashSet<DeliveryId>>,
}

impl Answers {
    fn read(row: &PgRow) -> Result<Self, SqlxError> {
        let seen = Seen { generation: row.try_get::<i64, _>(0)?.cast_unsigned(), ms: row.try_get(1)? };
        let stored: Option<Vec<[u8; 16]>> = row.try_get(2)?;
        Ok(Self { seen, stored: stored.map(|ids| ids.into_iter().map(DeliveryId::from_bytes).collect()) })
    }

    /// Answers a push. Of several with one delivery the first has stored it.
    fn take(&mut self, push: &Push) -> Pushed {
        if let Some(refused) = self.seen.refused(push) {
            return refused;
        }
        let Some(stored) = &mut self.stored else { return Pushed::Stored(Vec::new()) };
        let ids = push.deliveries.iter().map(|delivery| delivery.id);
        Pushed::Stored(ids.filter(|id| !stored.remove(id)).collect())
    }
}

/// Stores deliveries of which some have keys.
async fn store_keyed(session: &mut Session, pushes: &[&Push]) -> Result<Answers, SqlxError> {
    let (generation, ms) = super::catalogue::generation(session).await?;
    let seen = Seen { generation, ms };
    let planned: Vec<_> = pushes.iter().filter(|push| seen.refused(push).is_none()).collect();
    let once = planned.iter().filter(|push| push.once).flat_map(|push| push.deliveries.iter());
    let repeated = remember(session, once.map(|delivery| delivery.id).collect()).await?;
    let deliveries = planned.iter().flat_map(|push| push.deliveries.iter());
    let new: Vec<_> = deliveries.filter(|delivery| !repeated.contains(&delivery.id)).collect();
    let stored = insert_new(session, new).await?;
    let finished = finished(pushes);
    if !finished.is_empty() {
        session.sql(FORGET).bind(finished).execute(&mut session.conn).await?;
    }
    Ok(Answers { seen, stored: Some(stored) })
}

/// The deliveries that these pushes tell to be finished.
fn finished(pushes: &[&Push]) -> Vec<[u8; 16]> {
    sql::sorted(pushes.iter().flat_map(|push| push.finished.iter()).map(|id| id.to_bytes()))
}

/// Stores deliveries in the session's transaction, with a look at their keys; answers which were stored.
pub(super) async fn insert_new(
    session: &mut Session,
    new: Vec<&NewDelivery>,
) -> Result<HashSet<DeliveryId>, SqlxError> {
    let new = keys::take_unique(session, new).await?;
    if new.is_empty() {
        return Ok(HashSet::new());
    }
    let order: Vec<_> = new.iter().filter_map(|delivery| delivery.order).map(crate::id::Key::to_bytes).collect();
    // From here until the commit nobody else stores or ends a delivery of these keys.
    keys::lock(session, &order).await?;
    let mut looked =
        Looked { generations: vec![LOOKED_AT], untils: vec![i64::MAX], once: vec![false], ..Looked::default() };
    for delivery in &new {
        looked.add(delivery, 1);
    }
    let stored = looked.insert(session).await?.stored;
    keys::let_heads_go(session, &order).await?;
    Ok(stored.unwrap_or_else(|| new.iter().map(|delivery| delivery.id).collect()))
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
    kinds: Kinds<'d>,
    /// Of which of the kinds, from 1.
    of_kind: Vec<i32>,
    ids: Vec<[u8; 16]>,
    event_ids: Vec<[u8; 16]>,
    delays: Vec<i64>,
    emitted: Vec<Option<i64>>,
    origins: Vec<Option<Vec<u8>>>,
    payloads: Vec<&'d [u8]>,
}

/// What deliveries have of their handler and policy, by column.
#[derive(Default)]
struct Kinds<'d> {
    of: Vec<&'d NewDelivery>,
    names: Vec<&'d str>,
    attempts_max: Vec<i32>,
    backoff_first: Vec<i64>,
    backoff_max: Vec<Option<i64>>,
    timeouts: Vec<i64>,
    versions: Vec<i32>,
}

/// The pushes of rows, where each is looked at.
#[derive(Default)]
struct Looked<'d> {
    rows: Rows<'d>,
    once_ids: Vec<[u8; 16]>,
    once_pushes: Vec<i32>,
    generations: Vec<i64>,
    untils: Vec<i64>,
    once: Vec<bool>,
    order: Vec<Option<[u8; 16]>>,
    /// To which of the pushes a row belongs, from 1.
    pushes: Vec<i32>,
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

impl<'d> Kinds<'d> {
    /// The place of a delivery's kind, from 1.
    fn place(&mut self, delivery: &'d NewDelivery) -> i32 {
        let is_of_kind = |kind: &&NewDelivery| {
            (&kind.handler, kind.policy, kind.version) == (&delivery.handler, delivery.policy, delivery.version)
        };
        let place = self.of.iter().position(is_of_kind).unwrap_or_else(|| {
            self.add(delivery);
            self.of.len() - 1
        });
        i32::try_from(place + 1).unwrap_or(i32::MAX)
    }

    fn add(&mut self, delivery: &'d NewDelivery) {
        let (backoff_first, backoff_max) = backoff_columns(delivery.policy.backoff);
        self.of.push(delivery);
        self.names.push(&delivery.handler);
        self.attempts_max.push(delivery.policy.attempts_max.cast_signed());
        self.backoff_first.push(backoff_first);
        self.backoff_max.push(backoff_max);
        self.timeouts.push(time::millis(delivery.policy.timeout));
        self.versions.push(version_column(delivery.version));
    }
}

impl<'d> Rows<'d> {
    fn of(deliveries: impl Iterator<Item = &'d NewDelivery>) -> Self {
        let mut rows = Self::default();
        deliveries.for_each(|delivery| rows.add(delivery));
        rows
    }

    fn add(&mut self, delivery: &'d NewDelivery) {
        let kind = self.kinds.place(delivery);
        self.of_kind.push(kind);
        self.ids.push(delivery.id.to_bytes());
        self.event_ids.push(delivery.event_id.to_bytes());
        self.delays.push(time::delay_ms(delivery.delay));
        self.emitted.push(delivery.emitted_unix_ms);
        self.origins.push(delivery.origin.to_bytes(delivery.event_id));
        self.payloads.push(&delivery.payload);
    }

    /// The values of the first 13 parameters.
    fn bind(&self, statement: Sql) -> Sql {
        statement
            .bind(&self.kinds.names)
            .bind(&self.kinds.attempts_max)
            .bind(&self.kinds.backoff_first)
            .bind(&self.kinds.backoff_max)
            .bind(&self.kinds.timeouts)
            .bind(&self.kinds.versions)
            .bind(&self.of_kind)
            .bind(&self.ids)
            .bind(&self.event_ids)
            .bind(&self.delays)
            .bind(&self.emitted)
            .bind(&self.origins)
            .bind(&self.payloads)
    }

    async fn insert_alike(&self, session: &mut Session, generation: u64) -> Result<Answers, SqlxError> {
        let statement = self.bind(session.sql(INSERT_ALIKE)).bind(generation.cast_signed());
        Answers::read(&statement.fetch_one(&mut session.conn).await?)
    }
}

impl<'d> Looked<'d> {
    fn of_pushes(pushes: &[&'d Push]) -> Self {
        let mut looked = Self { finished: finished(pushes), ..Self::default() };
        let mut once = Vec::new();
        for (number, push) in (1..).zip(pushes) {
            looked.generations.push(push.generation.cast_signed());
            looked.untils.push(push.until.map_or(i64::MAX, |until| until.0));
            looked.once.push(push.once);
            for delivery in push.deliveries.iter() {
                looked.add(delivery, number);
                if push.once {
                    once.push((delivery.id.to_bytes(), number));
                }
            }
        }
        // In one order, so that two who repeat the same push wait for each other and not in a ring.
        once.sort_unstable();
        (looked.once_ids, looked.once_pushes) = once.into_iter().unzip();
        looked
    }

    fn add(&mut self, delivery: &'d NewDelivery, push: i32) {
        self.rows.add(delivery);
        self.order.push(delivery.order.map(crate::id::Key::to_bytes));
        self.pushes.push(push);
    }

    async fn insert(&self, session: &mut Session) -> Result<Answers, SqlxError> {
        let statement = self
            .rows
            .bind(session.sql(if self.finished.is_empty() { INSERT } else { INSERT_AND_FORGET }))
            .bind(&self.once_ids)
            .bind(&self.once_pushes)
            .bind(&self.generations)
            .bind(&self.untils)
            .bind(&self.once)
            .bind(&self.order)
            .bind(&self.pushes);
        let statement = if self.finished.is_empty() { statement } else { statement.bind(&self.finished) };
        Answers::read(&statement.fetch_one(&mut session.conn).await?)
    }
}
