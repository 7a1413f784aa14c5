//! The relay's turns: from outbox rows to deliveries.
//!
//! A row is new until a turn has had it, `target` is null; then it has a target for good, and what stays of it is stored. It waits
//! for others of its order keys in two ways. New, for earlier new ones that another relay has in hand: it is left as it is, since
//! whoever has the first of all goes on. With a target, for earlier rows that have the same key and target, which
//! `evented_outbox_keys` tells: it is due again when the one before it is, and `finish` makes it due at once.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use sqlx::{Error as SqlxError, Row as _, postgres::PgRow};

use crate::{
    error::StoreError,
    id::{DeliveryId, EventId, Key, LeaseToken},
    origin::Origin,
    store::{
        Claims, Elsewhere, Fan, Feed, INBOX_RETENTION, INBOX_SETTLED, Identity, Lapsed, NewDelivery, OutboxRow,
        PutBack, Relay, Relayed, Taken,
    },
    time,
};

use super::{
    claim::Asked,
    exchange::claim_beside,
    floors::{self, Floors},
    link::{Link, Session},
    push::insert_new,
    sql,
};

/// The lease of a row that waits for others of its order key; never a token, which is odd.
const WAITS_FOR_OTHERS: i64 = 0;
/// When rows are looked at again that another relay has in hand, or that wait for such a row.
const OTHERS_LOOK: Duration = Duration::from_millis(20);
/// How long a row is left that goes to a queue which is not known here.
const NO_TARGET: Duration = Duration::from_secs(1);
/// So many rows of each order key are made due when those before them are finished.
const WOKEN_MAX: i64 = 500;
/// So many rows at a time are told of another target.
const ADOPT_ROWS: i64 = 5_000;

/// The queue whose rows this turn looks at beside new ones.
fn target(relay: &Relay) -> Option<&str> {
    let leaves = matches!(relay.elsewhere, Elsewhere::Leave(_));
    relay.target.as_ref().filter(|_| !leaves).map(Identity::as_str)
}

/// A turn. It looks before it locks, unless it was told that something is due: where nothing is it writes nothing.
///
/// What it claims beside is known well enough by the floors of the last claims: it was stored just now.
pub(super) async fn relay(link: &Link, floors: &Floors, relay: &Relay, told: bool) -> Result<Relayed, StoreError> {
    if !told {
        let next = link.run(&target(relay), |session, target| Box::pin(next_row(session, *target))).await?;
        if next != Some(Duration::ZERO) {
            return Ok(Relayed { next_due: next, ..Relayed::default() });
        }
    }
    let beginning = |claim| floors::handlers(claim).map(|_| 0).collect();
    let claim = relay.claim.as_ref();
    let claim = claim.map(|claim| Asked {
        claim,
        floors: floors.of(claim).unwrap_or_else(|| beginning(claim)),
        // A claim of the worker's meets them soon enough.
        lapsed: Lapsed::Leave,
    });
    let asked = (relay, claim);
    link.transact(&asked, |session, asked| Box::pin(turn(session, asked.0, asked.1.as_ref()))).await
}

/// How long until the next outbox row is due that such a turn would take; zero when one is.
async fn next_row(session: &mut Session, target: Option<&str>) -> Result<Option<Duration>, SqlxError> {
    let row = session
        .sql(concat!(
            "select least(
                (select o.due_at from evented_outbox o where o.target is null order by o.due_at, o.seq limit 1),
                (select o.due_at from evented_outbox o where o.target = $1 order by o.due_at, o.seq limit 1)) - ",
            sql::now_ms!()
        ))
        .bind(target)
        .fetch_one(&mut session.conn)
        .await?;
    Ok(row.try_get::<Option<i64>, _>(0)?.map(time::from_millis))
}

/// New rows that nobody has in hand, the first ones, and rows of the target that are due.
macro_rules! rows {
    (new, $limit:literal) => {
        rows!(@ "new", "o.target is null and o.due_at = 0 order by o.seq", $limit)
    };
    (known, $limit:literal) => {
        rows!(@ "known", "o.target = $3 and o.due_at <= (select ms from clock) order by o.due_at, o.seq", $limit)
    };
    (@ $name:literal, $which:literal, $limit:literal) => {
        concat!(
            $name,
            " as materialized (
                select o.seq, o.event_id, o.event, o.correlation, o.version, o.emitted_at, o.target, o.handlers,
                    octet_length(o.payload) as bytes
                from evented_outbox o where ",
            $which,
            " limit ",
            $limit,
            " for update of o skip locked)"
        )
    };
}

/// Takes rows, the first ones and as many of the second as there is room for. Payloads beyond the limit are not read. The
/// generation is read as the rows are, at one moment: a handler that was recorded before a row was emitted is one of it. New
/// rows whose delay is over are made ready for the next turn.
macro_rules! take {
    ($first:ident, $second:ident, $rest:literal, $is_second:literal) => {
        concat!(
            "with clock as materialized (select ",
            sql::now_ms!(),
            " as ms),
            ripe as (
                update evented_outbox o set due_at = 0 where o.seq = any(array(
                    select w.seq from evented_outbox w
                    where w.target is null and w.due_at > 0 and w.due_at <= (select ms from clock)
                    order by w.due_at, w.seq limit $1 for update skip locked))
            ), ",
            rows!($first, "$1"),
            ", ",
            rows!($second, $rest),
            ", locked as (select * from new union all select * from known),
            sized as materialized (
                select l.*, sum(l.bytes) over w as until, row_number() over w as place, count(*) over () as found
                from locked l window w as (order by ",
            $is_second,
            ", l.seq rows unbounded preceding)
            )
            select s.seq, s.event_id, s.event, s.correlation, s.version, s.emitted_at, s.target, s.handlers, o.payload,
                s.found, coalesce((select c.catalogue from evented_schema c), 0)
            from sized s join evented_outbox o on o.seq = s.seq where s.place = 1 or s.until <= $2"
        )
    };
}

const TAKE: &str = take!(new, known, "$1 - (select count(*) from new)", "l.target is not null");
const TAKE_KNOWN_FIRST: &str = take!(known, new, "$1 - (select count(*) from known)", "l.target is null");

/// What a turn makes of its rows.
#[derive(Default)]
struct Turn {
    done: Vec<i64>,
    /// Those of them that have a target, and perhaps keys.
    done_later: Vec<i64>,
    here: Vec<NewDelivery>,
    /// Rows whose lease, time and target change: the row, its lease, how long until it may be taken, what it is taken for.
    changed: Vec<(i64, Option<i64>, Duration, Option<Taken>)>,
    /// Some wait for rows that another relay has in hand.
    waits: bool,
    /// The keys of rows that have a target from now on.
    keys: Vec<(Key, String, i64)>,
    claimed: Vec<OutboxRow>,
    put_off: usize,
}

async fn turn(session: &mut Session, relay: &Relay, claim: Option<&Asked<'_>>) -> Result<Relayed, SqlxError> {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let take = if relay.elsewhere == Elsewhere::Nothing { TAKE_KNOWN_FIRST } else { TAKE };
    let statement = session.sql(take).bind(count(relay.rows)).bind(count(relay.bytes)).bind(target(relay));
    let mut rows = statement.fetch_all(&mut session.conn).await?;
    let Some(first) = rows.first() else {
        // Another relay has them in hand. Should it not come to an end, they are due again.
        return Ok(Relayed { next_due: Some(OTHERS_LOOK), ..Relayed::default() });
    };
    if first.try_get::<i64, _>(10)?.cast_unsigned() != relay.generation {
        return Ok(Relayed { catalogue_moved: true, ..Relayed::default() });
    }
    let found: i64 = first.try_get(9)?;
    let all = found < count(relay.rows) && found == count(rows.len());
    // In the order in which they were written, whenever they were due.
    rows.sort_by_key(|row| row.get::<i64, _>(0));
    let batch = rows.into_iter().map(|row| read(&row)).collect::<Result<Vec<_>, _>>()?;
    let fans: Vec<_> = batch.iter().map(|row| (relay.fan_out)(row)).collect();
    let turn = decide(session, relay, batch, fans).await?;
    let next = turn.changed.iter().map(|(_, _, later, _)| *later).chain(turn.waits.then_some(OTHERS_LOOK)).min();
    insert_new(session, turn.here.iter().collect()).await?;
    change(session, &turn).await?;
    delete_rows(session, &turn.done).await?;
    if !turn.done_later.is_empty() {
        delete_rows(session, &turn.done_later).await?;
        let_next_go(session, &turn.done_later).await?;
    }
    let done = turn.done.len() + turn.done_later.len();
    let claims = match claim {
        Some(claim) if done > 0 => claim_beside(session, claim, &[]).await?.claims,
        _ => Claims::default(),
    };
    let something = done + turn.put_off + turn.claimed.len() > 0;
    let next_due = match next {
        _ if something => None,
        // The others that are due come when these go on.
        _ if turn.waits => Some(OTHERS_LOOK),
        next if all => next,
        _ => Some(Duration::ZERO),
    };
    let relayed = Relayed { done, put_off: turn.put_off, claimed: turn.claimed, next_due, ..Relayed::default() };
    Ok(relayed.with(&turn.here, claims))
}

async fn decide(
    session: &mut Session,
    relay: &Relay,
    batch: Vec<OutboxRow>,
    fans: Vec<Fan>,
) -> Result<Turn, SqlxError> {
    let mut turn = Turn::default();
    let is_new_and_ordered = |(row, fan): &(&OutboxRow, &Fan)| row.taken.is_none() && fan.is_ordered();
    let last_ordered = batch.iter().zip(&fans).filter(is_new_and_ordered).map(|(row, _)| row.row).next_back();
    let first_new = match last_ordered {
        Some(last) => first_new(session, &batch, last).await?,
        None => None,
    };
    // What is left as it is goes first, so that the rest is known.
    let mut going = Vec::new();
    for (row, fan) in batch.into_iter().zip(fans) {
        let waits = row.taken.is_none() && fan.is_ordered() && first_new.is_some_and(|first| first < row.row);
        match (fan.later, &relay.target) {
            (Some(later), _) => turn.changed.push((row.row, None, later, None)),
            (None, _) if waits => turn.waits = true,
            // Nobody here knows where it would go.
            (None, None) if !fan.elsewhere.is_empty() => turn.changed.push((row.row, None, NO_TARGET, None)),
            (None, _) => going.push((row, fan)),
        }
    }
    let mut blocked = match relay.elsewhere {
        Elsewhere::Lease => Blocked::find(session, target(relay), &going).await?,
        Elsewhere::Leave(_) | Elsewhere::Nothing => Blocked::default(),
    };
    let token = LeaseToken::mint();
    for (mut row, fan) in going {
        let is_new = row.taken.is_none();
        let keys = fan.keys_elsewhere();
        let taken_for = relay.target.as_ref().map(|target| Taken::of(target, &fan));
        turn.here.extend(fan.here);
        if fan.elsewhere.is_empty() {
            (if is_new { &mut turn.done } else { &mut turn.done_later }).push(row.row);
            continue;
        }
        let Some(taken_for) = row.taken.take().or(taken_for) else { continue };
        if is_new {
            turn.keys.extend(keys.iter().map(|key| (*key, taken_for.target.to_string(), row.row)));
        }
        let (lease, wait) = match (relay.elsewhere, blocked.wait(&keys, row.row)) {
            (Elsewhere::Leave(delay), _) => (None, delay),
            (_, Some(wait)) => (Some(WAITS_FOR_OTHERS), wait),
            (_, None) => (Some(token.to_i64()), relay.lease),
        };
        turn.changed.push((row.row, lease, wait, is_new.then(|| taken_for.clone())));
        if lease == Some(token.to_i64()) {
            row.taken = Some(taken_for);
            row.token = Some(token);
            turn.claimed.push(row);
        } else {
            // A new one came further all the same: what stays of it is stored.
            turn.put_off += usize::from(is_new);
        }
    }
    Ok(turn)
}

/// Order keys for which rows wait, each since which row and for how long.
#[derive(Default)]
struct Blocked(HashMap<Key, (i64, Duration)>);

impl Blocked {
    /// Looks for rows of the same keys and target that are not of this turn, and when they are due.
    async fn find(session: &mut Session, target: Option<&str>, going: &[(OutboxRow, Fan)]) -> Result<Self, SqlxError> {
        let keys: HashSet<_> = going.iter().flat_map(|(_, fan)| fan.keys_elsewhere()).collect();
        if keys.is_empty() {
            return Ok(Self::default());
        }
        let first = session
            .sql(
                "select k.key, f.seq from unnest($1::bytea[]) k(key) cross join lateral (
                    select x.seq from evented_outbox_keys x
                    where x.key = k.key and x.target = $2 and x.seq <> all($3::int8[])
                        and exists (select from evented_outbox o where o.seq = x.seq) order by x.seq limit 1) f",
            )
            .bind(keys.iter().map(|key| key.to_bytes()).collect::<Vec<_>>())
            .bind(target)
            .bind(going.iter().filter(|(_, fan)| !fan.elsewhere.is_empty()).map(|(row, _)| row.row).collect::<Vec<_>>())
            .fetch_all(&mut session.conn)
            .await?;
        let first = first
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<Result<Vec<([u8; 16], i64)>, SqlxError>>()?;
        if first.is_empty() {
            return Ok(Self::default());
        }
        // Held until those that wait for them are written, so that whoever finishes them finds these. One that another has in
        // hand is looked at again soon.
        let due = session
            .sql(concat!(
                "select o.seq, o.due_at - ",
                sql::now_ms!(),
                " from evented_outbox o where o.seq = any($1::int8[]) for share of o skip locked"
            ))
            .bind(sql::sorted(first.iter().map(|(_, seq)| *seq)))
            .fetch_all(&mut session.conn)
            .await?;
        let due = due
            .iter()
            .map(|row| Ok((row.try_get(0)?, time::from_millis(row.try_get(1)?))))
            .collect::<Result<HashMap<i64, Duration>, SqlxError>>()?;
        let wait = |seq| due.get(seq).copied().unwrap_or_default().max(OTHERS_LOOK);
        Ok(Self(first.iter().map(|(key, seq)| (Key::from_bytes(*key), (*seq, wait(seq)))).collect()))
    }

    /// How long a row with these keys waits; then those behind it do.
    fn wait(&mut self, keys: &[Key], row: i64) -> Option<Duration> {
        let before = keys.iter().filter_map(|key| self.0.get(key)).filter(|(first, _)| *first < row);
        let wait = before.map(|(_, wait)| *wait).max()?;
        for key in keys {
            let first = self.0.entry(*key).or_insert((row, wait));
            if first.0 > row {
                *first = (row, wait);
            }
        }
        Some(wait)
    }
}

fn read(row: &PgRow) -> Result<OutboxRow, SqlxError> {
    let event_id = EventId::from_bytes(row.try_get(1)?);
    Ok(OutboxRow {
        row: row.try_get(0)?,
        token: None,
        event_id,
        event: row.try_get(2)?,
        origin: Origin::from_bytes(event_id, row.try_get(3)?),
        version: row.try_get::<i32, _>(4)?.cast_unsigned(),
        emitted_unix_ms: row.try_get(5)?,
        taken: Taken::read(row.try_get(6)?, row.try_get(7)?).map_err(SqlxError::decode)?,
        payload: row.try_get::<&[u8], _>(8)?.into(),
    })
}

/// The first new row before `last` that another relay has in hand: deliveries of an order key wait for it, since it may have
/// their key.
///
/// It is looked for after the rows were taken: one that another relay had in hand then stands there until that relay's commit,
/// after which its deliveries do.
async fn first_new(session: &mut Session, batch: &[OutboxRow], last: i64) -> Result<Option<i64>, SqlxError> {
    let row = session
        .sql(
            "select o.seq from evented_outbox o
             where o.target is null and o.due_at = 0 and o.seq < $2 and o.seq <> all($1::int8[]) order by o.seq limit 1",
        )
        .bind(batch.iter().map(|row| row.row).collect::<Vec<_>>())
        .bind(last)
        .fetch_optional(&mut session.conn)
        .await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// Leases rows, or puts them off, and gives them their target and their keys.
async fn change(session: &mut Session, turn: &Turn) -> Result<(), SqlxError> {
    let rows = &turn.changed;
    if !rows.is_empty() {
        session
            .sql(concat!(
                "update evented_outbox o set held = n.lease, due_at = c.ms + n.delay,
                    target = coalesce(o.target, n.target), handlers = coalesce(o.handlers, n.handlers)
                 from unnest($1::int8[], $2::int8[], $3::int8[], $4::text[], $5::text[])
                    n(seq, lease, delay, target, handlers), (select ",
                sql::now_ms!(),
                " as ms offset 0) c where o.seq = n.seq"
            ))
            .bind(rows.iter().map(|(row, ..)| *row).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, lease, ..)| *lease).collect::<Vec<_>>())
            .bind(rows.iter().map(|(_, _, later, _)| time::delay_ms(*later)).collect::<Vec<_>>())
            .bind(rows.iter().map(|(.., taken)| Some(taken.as_ref()?.target.as_str())).collect::<Vec<_>>())
            .bind(rows.iter().map(|(.., taken)| Some(taken.as_ref()?.handlers_as_text())).collect::<Vec<_>>())
            .execute(&mut session.conn)
            .await?;
    }
    if !turn.keys.is_empty() {
        session
            .sql(
                "insert into evented_outbox_keys (key, target, seq)
                 select * from unnest($1::bytea[], $2::text[], $3::int8[]) on conflict do nothing",
            )
            .bind(turn.keys.iter().map(|(key, ..)| key.to_bytes()).collect::<Vec<_>>())
            .bind(turn.keys.iter().map(|(_, target, _)| &**target).collect::<Vec<_>>())
            .bind(turn.keys.iter().map(|(.., row)| *row).collect::<Vec<_>>())
            .execute(&mut session.conn)
            .await?;
    }
    Ok(())
}

async fn delete_rows(session: &mut Session, rows: &[i64]) -> Result<(), SqlxError> {
    if rows.is_empty() {
        return Ok(());
    }
    session.sql("delete from evented_outbox where seq = any($1::int8[])").bind(rows).execute(&mut session.conn).await?;
    Ok(())
}

/// Deletes the keys of rows that are gone, and makes those due that waited for them.
async fn let_next_go(session: &mut Session, gone: &[i64]) -> Result<(), SqlxError> {
    let keys = session
        .sql("delete from evented_outbox_keys where seq = any($1::int8[]) returning key, target")
        .bind(gone)
        .fetch_all(&mut session.conn)
        .await?;
    if keys.is_empty() {
        return Ok(());
    }
    let keys = keys
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<Vec<([u8; 16], String)>, SqlxError>>()?;
    let (keys, targets): (Vec<_>, Vec<_>) = sql::sorted(keys.into_iter()).into_iter().unzip();
    // Past those that a turn has in hand, which looks after itself.
    session
        .sql(concat!(
            "update evented_outbox o set due_at = ",
            sql::now_ms!(),
            " where o.seq = any(array(
                select w.seq from evented_outbox w where w.held = 0 and w.target is not null and w.seq = any(array(
                    select f.seq from unnest($1::bytea[], $2::text[]) k(key, target) cross join lateral (
                        select x.seq from evented_outbox_keys x where x.key = k.key and x.target = k.target
                            and exists (select from evented_outbox o where o.seq = x.seq)
                        order by x.seq limit $3) f))
                for update skip locked))"
        ))
        .bind(keys)
        .bind(targets)
        .bind(WOKEN_MAX)
        .execute(&mut session.conn)
        .await?;
    Ok(())
}

fn fence<'a>(rows: impl Iterator<Item = &'a OutboxRow>) -> (Vec<i64>, Vec<Option<i64>>) {
    rows.map(|row| (row.row, row.token.map(LeaseToken::to_i64))).unzip()
}

/// Deletes leased rows; a row whose lease was lost is another relay's now.
pub(super) async fn finish(session: &mut Session, rows: &[OutboxRow]) -> Result<Vec<bool>, SqlxError> {
    let (seqs, tokens) = fence(rows.iter());
    let held = session
        .sql(
            "select o.seq from evented_outbox o join unnest($1::int8[], $2::int8[]) r(seq, lease)
                on o.seq = r.seq and o.held = r.lease
             order by o.seq for update of o",
        )
        .bind(seqs)
        .bind(tokens)
        .fetch_all(&mut session.conn)
        .await?;
    let held = held.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    let mut finished = Vec::new();
    for row in rows {
        let is_held = held.contains(&row.row);
        finished.push(is_held);
        if !is_held {
            tracing::warn!(event_id = %row.event_id, "the relay lost its lease on an outbox row; another has it");
        }
    }
    if !held.is_empty() {
        delete_rows(session, &held).await?;
        let_next_go(session, &held).await?;
    }
    Ok(finished)
}

/// Gives leased rows back.
pub(super) async fn put_back(session: &mut Session, rows: &[PutBack]) -> Result<(), SqlxError> {
    let (seqs, tokens) = fence(rows.iter().map(|back| &back.row));
    session
        .sql(concat!(
            "update evented_outbox o set held = null, due_at = c.ms + n.delay, error = coalesce(",
            sql::readable!("n.error"),
            ", o.error)
             from unnest($1::int8[], $2::int8[], $3::int8[], $4::bytea[]) n(seq, lease, delay, error), (select ",
            sql::now_ms!(),
            " as ms offset 0) c where o.seq = n.seq and o.held = n.lease"
        ))
        .bind(seqs)
        .bind(tokens)
        .bind(rows.iter().map(|back| time::delay_ms(back.delay)).collect::<Vec<_>>())
        .bind(rows.iter().map(|back| back.error.as_deref().map(sql::storable)).collect::<Vec<_>>())
        .execute(&mut session.conn)
        .await?;
    Ok(())
}

/// Writes which queue the outbox feeds, where none is written or a person says so; answers the one that is written then.
pub(super) async fn feed(session: &mut Session, feed: &Feed) -> Result<Option<Identity>, SqlxError> {
    let (queue, adopt) = match feed {
        Feed::Ask => (None, false),
        Feed::First(queue) => (Some(queue), false),
        Feed::Adopt(queue) => (Some(queue), true),
    };
    let written = session
        .sql(
            "with written as (
                update evented_schema set feeds = $1 where feeds is null or ($2 and feeds <> $1) returning feeds)
             select coalesce((select feeds from written), (select feeds from evented_schema))",
        )
        .bind(queue.map(Identity::as_str))
        .bind(adopt)
        .fetch_one(&mut session.conn)
        .await?;
    // Where our row is gone, it is made again before anything is relayed, and this asked again.
    Ok(written.try_get::<Option<String>, _>(0)?.map(Identity::from).or_else(|| queue.cloned()))
}

/// Tells rows on their way to other queues that they go to this one; answers whether there may be more.
pub(super) async fn redirect(session: &mut Session, queue: &Identity) -> Result<bool, SqlxError> {
    let rows = session
        .sql(
            "update evented_outbox o set target = $1, held = null, due_at = 0 where o.seq = any(array(
                select w.seq from evented_outbox w where w.target < $1 or w.target > $1
                order by w.target, w.due_at, w.seq limit $2 for update))
             returning o.seq",
        )
        .bind(queue.as_str())
        .bind(ADOPT_ROWS)
        .fetch_all(&mut session.conn)
        .await?;
    let seqs = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    session
        .sql("update evented_outbox_keys set target = $1 where seq = any($2::int8[])")
        .bind(queue.as_str())
        .bind(&seqs)
        .execute(&mut session.conn)
        .await?;
    Ok(i64::try_from(seqs.len()).is_ok_and(|count| count == ADOPT_ROWS))
}

/// Forgets deliveries of another store that are settled there a while from now, and deletes of what is over so much more that its
/// number follows the work.
pub(super) async fn settled(session: &mut Session, deliveries: &[DeliveryId]) -> Result<(), SqlxError> {
    session
        .sql(concat!(
            "with clock as materialized (select ",
            sql::now_ms!(),
            " as ms),
             settled as (
                update evented_inbox i set at = (select ms from clock) - $2
                where i.delivery = any($1::bytea[]) and i.at > (select ms from clock) - $2
             )
             delete from evented_inbox where delivery = any(array(
                select i.delivery from evented_inbox i where i.at < (select ms from clock) - $3
                order by i.at limit 2 * cardinality($1::bytea[]) for update skip locked))"
        ))
        .bind(sql::sorted(deliveries.iter().map(|id| id.to_bytes())))
        .bind(time::millis(INBOX_RETENTION.saturating_sub(INBOX_SETTLED)))
        .bind(time::millis(INBOX_RETENTION))
        .execute(&mut session.conn)
        .await?;
    Ok(())
}

pub(super) async fn rows(session: &mut Session) -> Result<u64, SqlxError> {
    let row = session.sql("select count(*) from evented_outbox").fetch_one(&mut session.conn).await?;
    Ok(row.try_get::<i64, _>(0)?.cast_unsigned())
}
