//! The outbox: rows written in the application's transactions, and their way to deliveries.
//!
//! A row is new until its first turn. That stores what stays and, where something goes elsewhere, writes to which queue, and its
//! order keys. From then on the row is leased, or due for a relay of that queue, or waits for an earlier row of a key: the end of
//! that one lets it go, by a trigger.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use sqlx::{Error as SqlxError, Row as _, SqliteConnection, query, query_as, query_scalar, sqlite::SqliteRow};

use crate::{
    id::{DeliveryId, Key, LeaseToken},
    origin::Origin,
    store::{Claims, Elsewhere, Fan, Feed, INBOX_SETTLED, Identity, OutboxRow, PutBack, Relay, Relayed, Taken},
    time,
};

use super::{
    admin::INBOX_KEPT,
    catalogue::move_generation,
    push::{hex_json, insert, to_json},
    queue::{NEVER, claim, event_id},
    writer::Running,
};

/// The lease of a row that waits for an earlier one of its order key; never a token, which is odd.
const WAITS: i64 = 0;
/// How long a row is left that cannot be read.
const UNREAD: Duration = Duration::from_mins(1);
/// How long a row is left that goes to a queue which the relay does not know.
const NO_TARGET: Duration = Duration::from_secs(1);

/// Due rows: new ones, then those that were on their way to the relay's queue before, or the other way round; no more bytes than asked, of which the
/// others are not read. In few columns, since each one costs allocations on its way through the driver. The generation of the
/// catalogue is read with them.
const TAKE: &str = "with due as (
        select * from (
            select * from (select 0 as again, seq, due_at, length(payload) as bytes from evented_outbox
                where target is null and due_at <= ?1 order by due_at, seq limit ?2)
            union all
            select * from (select 1, seq, due_at, length(payload) from evented_outbox
                where target = ?4 and due_at <= ?1 order by due_at, seq limit ?2)
        ) order by again = ?5, due_at, seq limit ?2
    ), fit as (
        select seq, row_number() over turn as number, sum(bytes) over turn as total
        from due window turn as (order by again = ?5, due_at, seq rows unbounded preceding)
    )
    select format('%d %d %d %d %d', o.seq, o.version, o.emitted_at, (select catalogue from evented_schema),
            (select max(number) from fit)),
        o.event_id, o.event, o.correlation, o.payload, o.target, o.handlers
    from fit join evented_outbox o on o.seq = fit.seq where fit.number = 1 or fit.total <= ?3";

/// What becomes of a row that stays in the outbox.
struct Change {
    row: i64,
    lease: Option<i64>,
    due_at: i64,
    taken: Option<Taken>,
    error: Option<String>,
}

/// A row that goes elsewhere, with its order keys there.
struct Going {
    row: OutboxRow,
    taken: Taken,
    keys: Vec<Key>,
    is_new: bool,
}

/// One turn of the relay, inside the writer's transaction.
pub(super) fn relay<'a>(conn: &'a mut SqliteConnection, relay: &'a Relay) -> Running<'a, Relayed> {
    Box::pin(async move {
        let now = time::unix_ms();
        let rows = query(TAKE)
            .bind(now)
            .bind(i64::try_from(relay.rows).unwrap_or(i64::MAX))
            .bind(i64::try_from(relay.bytes).unwrap_or(i64::MAX))
            .bind(known_target(relay))
            .bind(relay.elsewhere != Elsewhere::Nothing)
            .fetch_all(&mut *conn)
            .await?;
        let mut relayed = Relayed::default();
        let mut changes = Vec::new();
        let mut batch = Vec::with_capacity(rows.len());
        let mut due = 0;
        for row in &rows {
            let (seq, generation, of, read) = read(row)?;
            due = of;
            if generation.cast_unsigned() != relay.generation {
                return Ok(Relayed { catalogue_moved: true, ..Relayed::default() });
            }
            match read {
                Ok(row) => batch.push(row),
                Err(error) => {
                    tracing::error!(row = seq, %error, tried_again_in = ?UNREAD,
                        "a row of the outbox cannot be read, and is left as it is");
                    let error = Some(error.to_string());
                    changes.push(Change { row: seq, lease: None, due_at: time::due_at(UNREAD), taken: None, error });
                }
            }
        }
        // In the order of their commits, whenever they were due.
        batch.sort_by_key(|row| row.row);
        let (again, new): (Vec<_>, Vec<_>) = batch.into_iter().partition(|row| row.taken.is_some());
        let fans: Vec<_> = new.iter().map(|row| (relay.fan_out)(row)).collect();
        // Where all that is due was taken, nothing is left that one of an order key would wait for; nor where new rows left room
        // for others.
        let is_cut = again.is_empty() && (rows.len() >= relay.rows || rows.len() < due);
        let untaken = if is_cut && fans.iter().any(Fan::is_ordered) { untaken(conn, &new, now).await? } else { None };
        let (mut here, mut done) = (Vec::new(), Vec::new());
        let mut leased = Vec::new();
        for row in again {
            let fan = (relay.fan_out)(&row);
            here.extend(fan.here);
            if fan.elsewhere.is_empty() { done.push(row.row) } else { leased.push(row) }
        }
        let mut going = with_keys(conn, leased).await?;
        for (row, fan) in new.into_iter().zip(fans) {
            let stays = |due_at| Change { row: row.row, lease: None, due_at, taken: None, error: None };
            match (&untaken, fan.later, &relay.target) {
                (Some((first, due_at)), ..) if fan.is_ordered() && *first < row.row => changes.push(stays(*due_at)),
                (_, Some(later), _) => changes.push(stays(time::due_at(later))),
                _ if fan.elsewhere.is_empty() => {
                    here.extend(fan.here);
                    done.push(row.row);
                }
                (.., None) => changes.push(stays(time::due_at(NO_TARGET))),
                (.., Some(target)) => {
                    let (keys, taken) = (fan.keys_elsewhere(), Taken::of(target, &fan));
                    here.extend(fan.here);
                    going.push(Going { row, taken, keys, is_new: true });
                }
            }
        }
        insert(conn, here.iter()).await?;
        delete_rows(conn, &done).await?;
        relayed.done = done.len();
        go(conn, relay, going, &mut changes, &mut relayed).await?;
        change(conn, &changes).await?;
        let claims = match &relay.claim {
            Some(asked) if relayed.done > 0 => claim(conn, asked).await?,
            _ => Claims::default(),
        };
        if relayed.done + relayed.put_off + relayed.claimed.len() == 0 {
            relayed.next_due = next_row(conn, known_target(relay)).await?;
        }
        Ok(relayed.with(&here, claims))
    })
}

/// The queue whose rows a relay takes again.
pub(super) fn known_target(relay: &Relay) -> Option<&str> {
    let leaves = matches!(relay.elsewhere, Elsewhere::Leave(_));
    relay.target.as_ref().filter(|_| !leaves).map(Identity::as_str)
}

/// A row of `TAKE`: its number, the generation of the catalogue, how many were found, and what it says.
fn read(row: &SqliteRow) -> Result<(i64, i64, usize, Result<OutboxRow, SqlxError>), SqlxError> {
    let numbers: &str = row.try_get(0)?;
    let mut numbers = numbers.split(' ');
    let mut next =
        || -> Result<i64, SqlxError> { numbers.next().unwrap_or_default().parse().map_err(SqlxError::decode) };
    let (seq, version, emitted_unix_ms, generation) = (next()?, next()?, next()?, next()?);
    let found = usize::try_from(next()?).map_err(SqlxError::decode)?;
    let read = || {
        let event_id = event_id(row.try_get(1)?)?;
        Ok(OutboxRow {
            row: seq,
            token: None,
            event_id,
            event: row.try_get(2)?,
            origin: Origin::from_bytes(event_id, row.try_get(3)?),
            version: u32::try_from(version).map_err(SqlxError::decode)?,
            emitted_unix_ms,
            taken: Taken::read(row.try_get(5)?, row.try_get(6)?).map_err(SqlxError::decode)?,
            payload: row.try_get::<&[u8], _>(4)?.into(),
        })
    };
    Ok((seq, generation, found, read()))
}

/// The first new row that is due and was not taken, and since when: deliveries of an order key wait for it, since it may have
/// their key. It comes with the next turn.
async fn untaken(conn: &mut SqliteConnection, new: &[OutboxRow], now: i64) -> Result<Option<(i64, i64)>, SqlxError> {
    let taken: Vec<i64> = new.iter().map(|row| row.row).collect();
    query_as(
        "select seq, due_at from evented_outbox indexed by evented_outbox_order
         where target is null and due_at <= ?1 and seq < ?3 and seq not in (select value from json_each(?2))
         order by seq limit 1",
    )
    .bind(now)
    .bind(to_json(&taken)?)
    .bind(taken.last())
    .fetch_optional(conn)
    .await
}

/// Rows that were taken before, with the keys that were written with their first turn.
async fn with_keys(conn: &mut SqliteConnection, rows: Vec<OutboxRow>) -> Result<Vec<Going>, SqlxError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let asked: Vec<i64> = rows.iter().map(|row| row.row).collect();
    let sql = "select seq, key from evented_outbox_keys where seq in (select value from json_each(?))";
    let found: Vec<(i64, Vec<u8>)> = query_as(sql).bind(to_json(&asked)?).fetch_all(conn).await?;
    let mut keys: HashMap<i64, Vec<Key>> = HashMap::new();
    for (row, key) in found {
        keys.entry(row).or_default().push(Key::from_bytes(key.try_into().unwrap_or_default()));
    }
    let going = |row: OutboxRow| {
        let taken = row.taken.clone()?;
        Some(Going { keys: keys.remove(&row.row).unwrap_or_default(), row, taken, is_new: false })
    };
    Ok(rows.into_iter().filter_map(going).collect())
}

/// Leases what goes elsewhere, or leaves it. One of an order key waits for earlier ones of it, unless they are leased in this same
/// turn.
async fn go(
    conn: &mut SqliteConnection,
    relay: &Relay,
    mut going: Vec<Going>,
    changes: &mut Vec<Change>,
    relayed: &mut Relayed,
) -> Result<(), SqlxError> {
    let Some(target) = &relay.target else { return Ok(()) };
    going.sort_by_key(|going| going.row.row);
    write_keys(conn, target, &going).await?;
    let token = LeaseToken::mint();
    let (lease, delay) = match relay.elsewhere {
        Elsewhere::Lease | Elsewhere::Nothing => (Some(token.to_i64()), relay.lease),
        Elsewhere::Leave(delay) => (None, delay),
    };
    let due_at = time::due_at(delay);
    let mut blocked = if lease.is_some() { first_of_others(conn, target, &going).await? } else { HashMap::new() };
    for Going { row, taken, keys, is_new } in going {
        let seq = row.row;
        let waits = keys.iter().any(|key| blocked.get(key).is_some_and(|first| *first < row.row));
        let (lease, due_at) = if waits { (Some(WAITS), NEVER) } else { (lease, due_at) };
        let claimed = lease.is_some() && !waits;
        if claimed {
            relayed.claimed.push(OutboxRow { token: Some(token), taken: Some(taken.clone()), ..row });
        } else if is_new {
            relayed.put_off += 1;
        }
        changes.push(Change { row: seq, lease, due_at, taken: is_new.then_some(taken), error: None });
        if waits {
            for key in keys {
                let first = blocked.entry(key).or_insert(seq);
                *first = seq.min(*first);
            }
        }
    }
    Ok(())
}

/// Writes the order keys of rows in their first turn.
async fn write_keys(conn: &mut SqliteConnection, target: &Identity, going: &[Going]) -> Result<(), SqlxError> {
    let new = going.iter().filter(|going| going.is_new);
    let keys: Vec<_> = new.flat_map(|going| going.keys.iter().map(|key| (hex(*key), going.row.row))).collect();
    if keys.is_empty() {
        return Ok(());
    }
    query(
        "insert into evented_outbox_keys (key, target, seq)
         select unhex(value ->> 0), ?2, value ->> 1 from json_each(?1) where true on conflict do nothing",
    )
    .bind(to_json(&keys)?)
    .bind(target.as_str())
    .execute(conn)
    .await?;
    Ok(())
}

/// For each key of these rows the first row of it and of the target that is none of them.
async fn first_of_others(
    conn: &mut SqliteConnection,
    target: &Identity,
    going: &[Going],
) -> Result<HashMap<Key, i64>, SqlxError> {
    let mut keys: Vec<Key> = going.iter().flat_map(|going| going.keys.iter().copied()).collect();
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<i64> = going.iter().map(|going| going.row.row).collect();
    let hexes: Vec<_> = keys.iter().map(|key| hex(*key)).collect();
    let found: Vec<(i64, Option<i64>)> = query_as(
        "select j.key, (select k.seq from evented_outbox_keys k
            where k.key = unhex(j.value) and k.target = ?2 and k.seq not in (select value from json_each(?3))
            order by k.seq limit 1)
         from json_each(?1) j",
    )
    .bind(to_json(&hexes)?)
    .bind(target.as_str())
    .bind(to_json(&rows)?)
    .fetch_all(conn)
    .await?;
    let first = found.into_iter().filter_map(|(at, first)| Some((*keys.get(usize::try_from(at).ok()?)?, first?)));
    Ok(first.collect())
}

fn hex(key: Key) -> String {
    format!("{:032x}", u128::from_be_bytes(key.to_bytes()))
}

/// Writes what becomes of rows that stay.
async fn change(conn: &mut SqliteConnection, changes: &[Change]) -> Result<(), SqlxError> {
    if changes.is_empty() {
        return Ok(());
    }
    let taken = |it: &Change| it.taken.as_ref().map(|taken| (taken.target.to_string(), taken.handlers_as_text()));
    let changes: Vec<_> = changes.iter().map(|it| (it.row, it.lease, it.due_at, &it.error, taken(it))).collect();
    query(
        "update evented_outbox set lease = n.value ->> 1, due_at = n.value ->> 2, error = coalesce(n.value ->> 3, error),
            target = coalesce(target, n.value ->> '$[4][0]'), handlers = coalesce(handlers, n.value ->> '$[4][1]')
         from json_each(?) n where seq = n.value ->> 0",
    )
    .bind(to_json(&changes)?)
    .execute(conn)
    .await?;
    Ok(())
}

async fn delete_rows(conn: &mut SqliteConnection, rows: &[i64]) -> Result<(), SqlxError> {
    if rows.is_empty() {
        return Ok(());
    }
    query("delete from evented_outbox where seq in (select value from json_each(?))")
        .bind(to_json(&rows)?)
        .execute(conn)
        .await?;
    Ok(())
}

/// `(row, token)` of a leased row; no row has the second where it is not leased.
fn fence(row: &OutboxRow) -> (i64, i64) {
    (row.row, row.token.map_or(WAITS, LeaseToken::to_i64))
}

/// Deletes leased rows whose deliveries are all stored; a row whose lease was lost is another relay's now.
#[expect(clippy::ptr_arg, reason = "a write takes its input as it was sent")]
pub(super) fn finish<'a>(conn: &'a mut SqliteConnection, rows: &'a Vec<OutboxRow>) -> Running<'a, Vec<bool>> {
    Box::pin(async move {
        let fences: Vec<_> = rows.iter().filter(|row| row.token.is_some()).map(fence).collect();
        let deleted: Vec<i64> = query_scalar(
            "delete from evented_outbox where seq in (
                select o.seq from json_each(?) j
                join evented_outbox o on o.seq = j.value ->> 0 and o.lease = j.value ->> 1)
             returning seq",
        )
        .bind(to_json(&fences)?)
        .fetch_all(conn)
        .await?;
        let mut deleted: HashSet<i64> = deleted.into_iter().collect();
        let finished: Vec<bool> = rows.iter().map(|row| deleted.remove(&row.row)).collect();
        for (row, _) in rows.iter().zip(&finished).filter(|(_, finished)| !**finished) {
            tracing::warn!(event_id = %row.event_id, "the relay lost its lease on an outbox row; another has it");
        }
        Ok(finished)
    })
}

/// Gives leased rows back.
#[expect(clippy::ptr_arg, reason = "a write takes its input as it was sent")]
pub(super) fn put_back<'a>(conn: &'a mut SqliteConnection, rows: &'a Vec<PutBack>) -> Running<'a, ()> {
    Box::pin(async move {
        let rows = rows.iter().filter(|back| back.row.token.is_some());
        let rows: Vec<_> = rows.map(|back| (fence(&back.row), time::due_at(back.delay), &back.error)).collect();
        query(
            "update evented_outbox set lease = null, due_at = n.value ->> 1, error = coalesce(n.value ->> 2, error)
             from json_each(?) n where seq = n.value ->> '$[0][0]' and lease = n.value ->> '$[0][1]'",
        )
        .bind(to_json(&rows)?)
        .execute(conn)
        .await?;
        Ok(())
    })
}

/// Which queue the outbox feeds: the one that is written, or else this one. Where a person says so this one takes the other's
/// place, in one commit with the rows on their way: in between their order would be lost. Relays that still know the other read
/// the catalogue again before they take a row.
pub(super) fn feed<'a>(conn: &'a mut SqliteConnection, said: &'a Feed) -> Running<'a, Option<Identity>> {
    Box::pin(async move {
        let written = fed(conn).await?;
        let queue = match (said, &written) {
            (Feed::Adopt(queue), Some(other)) if other != queue => queue,
            (Feed::First(queue) | Feed::Adopt(queue), None) => queue,
            _ => return Ok(written),
        };
        query("update evented_schema set feeds = ?").bind(queue.as_str()).execute(&mut *conn).await?;
        if matches!(said, Feed::Adopt(_)) {
            for sql in [
                "update evented_outbox set target = ?1, lease = null, due_at = 0 where target <> ?1",
                "update or ignore evented_outbox_keys set target = ?1 where target <> ?1",
            ] {
                query(sql).bind(queue.as_str()).execute(&mut *conn).await?;
            }
            move_generation(conn).await?;
        }
        Ok(Some(queue.clone()))
    })
}

/// Which queue the outbox feeds, as it is written.
pub(super) async fn fed(conn: &mut SqliteConnection) -> Result<Option<Identity>, SqlxError> {
    let fed: Option<Option<String>> = query_scalar("select feeds from evented_schema").fetch_optional(conn).await?;
    Ok(fed.flatten().map(Identity::from))
}

/// Gives deliveries that cannot come again an age at which they are forgotten soon, and deletes about as many that have reached
/// it.
pub(super) fn settled<'a>(conn: &'a mut SqliteConnection, deliveries: &'a Vec<DeliveryId>) -> Running<'a, ()> {
    Box::pin(async move {
        let over = time::unix_ms().saturating_sub(time::millis(INBOX_KEPT));
        query(
            "update evented_inbox set at = ?2 where delivery in (select unhex(value) from json_each(?1)) and at > ?2",
        )
        .bind(hex_json(deliveries))
        .bind(over + time::millis(INBOX_SETTLED))
        .execute(&mut *conn)
        .await?;
        query(
            "delete from evented_inbox where delivery in
                (select delivery from evented_inbox where at < ? order by at limit ?)",
        )
        .bind(over)
        .bind(i64::try_from(2 * deliveries.len()).unwrap_or(i64::MAX))
        .execute(conn)
        .await?;
        Ok(())
    })
}

pub(super) async fn rows(conn: &mut SqliteConnection) -> Result<u64, SqlxError> {
    let rows: i64 = query_scalar("select count(*) from evented_outbox").fetch_one(conn).await?;
    Ok(rows.cast_unsigned())
}

/// How long until the next row is due that is new, or of this target; zero when one is.
pub(super) async fn next_row(conn: &mut SqliteConnection, target: Option<&str>) -> Result<Option<Duration>, SqlxError> {
    let due_at: Vec<Option<i64>> = query_scalar(
        "select min(due_at) from evented_outbox where target is null
         union all select min(due_at) from evented_outbox where target = ?",
    )
    .bind(target)
    .fetch_all(conn)
    .await?;
    let due_at = due_at.into_iter().flatten().filter(|due_at| *due_at < NEVER).min();
    Ok(due_at.map(|due_at| time::from_millis(due_at.saturating_sub(time::unix_ms()))))
}
