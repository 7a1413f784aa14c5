//! Sessions, and deliveries whose session died while it had them.
//!
//! A claim that meets ended leases only says so; what becomes of them is decided here, in a transaction of its own, and so is
//! who gets a suspect. Both are rare, and their statements plain. Who decides that a session has died holds its row until the
//! commit: one that comes back meanwhile waits, and then finds all that was held against it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use sqlx::{Error as SqlxError, Row as _};

use crate::{
    error::StoreError,
    id::{LeaseToken, SessionId},
    store::{CHARGES_MAX, Claim, ClaimQueue, Claimed, Lease, Suspected, Suspects, lived_for_trial},
    time,
};

use super::{
    claim::{columns, read_one},
    counts::{Counts, count},
    link::{Link, Session, Sql},
    sql::{self, EXPOSED, TRIED, fence, version_column},
};

/// Of so many suspects of a handler that wait to be tried it is looked whether they can be.
const CANDIDATES: i64 = 100;

/// What became of deliveries whose lease has ended.
#[derive(Default)]
pub(super) struct Judged {
    /// Leased again: nobody died.
    pub interrupted: Vec<Claimed>,
    /// Others wait as suspects from now on.
    pub suspects: bool,
}

/// Decides on deliveries whose lease has ended, those excepted that others have in hand.
pub(super) async fn judge(link: &Link, claim: &Claim, ended: Vec<[u8; 16]>) -> Result<Judged, StoreError> {
    link.transact(&(claim, ended), |session, (claim, ended)| Box::pin(judge_all(session, claim, ended))).await
}

async fn judge_all(session: &mut Session, claim: &Claim, ended: &[[u8; 16]]) -> Result<Judged, SqlxError> {
    let dead = session
        .sql(concat!(
            "select s.id from evented_sessions s
             where s.id = any(array(select d.session from evented_deliveries d where d.id = any($1::bytea[])))
                and s.until <= ",
            sql::now_ms!(),
            " order by s.id for share"
        ))
        .bind(ended)
        .fetch_all(&mut session.conn)
        .await?;
    let dead = dead.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    let found = session
        .sql(concat!(
            "select d.id, d.handler, d.suspect > 0, coalesce(d.session = any($2::int8[]), false) from evented_deliveries d
             where d.id = any($1::bytea[]) and d.lease is not null and d.due_at <= ",
            sql::now_ms!(),
            " order by d.id for update skip locked"
        ))
        .bind(ended)
        .bind(dead)
        .fetch_all(&mut session.conn)
        .await?;
    let (mut interrupted, mut waiting, mut died) = (HashSet::new(), Vec::new(), Vec::new());
    let mut counts = Counts::new();
    for row in &found {
        let id: [u8; 16] = row.try_get(0)?;
        let (is_suspect, has_died): (bool, bool) = (row.try_get(2)?, row.try_get(3)?);
        if !is_suspect && !has_died {
            interrupted.insert(id);
            continue;
        }
        counts.entry(row.try_get(1)?).or_default()[4] -= 1;
        (if has_died { &mut died } else { &mut waiting }).push(id);
    }
    if !waiting.is_empty() {
        session
            .sql(
                "update evented_deliveries d set lease = null, due_at = 9223372036854775807 - d.suspect
                 where d.id = any($1::bytea[])",
            )
            .bind(waiting)
            .execute(&mut session.conn)
            .await?;
    }
    if !died.is_empty() {
        accuse(session, &died).await?;
    }
    count(session, &counts).await?;
    // In the order in which they were due.
    let again: Vec<_> = ended.iter().filter(|id| interrupted.contains(*id)).copied().collect();
    let interrupted = lease(session, &again, claim.lease, claim.session).await?;
    Ok(Judged {
        interrupted: interrupted.into_iter().map(|(_, claimed)| claimed).collect(),
        suspects: !counts.is_empty(),
    })
}

/// Makes suspects of deliveries whose session died.
async fn accuse(session: &mut Session, died: &[[u8; 16]]) -> Result<(), SqlxError> {
    // What died with the same session before is not what this one died of alone.
    session
        .sql(
            "update evented_deliveries d set pending = false where d.id = any(array(
                select o.id from evented_deliveries o
                where o.pending and o.died_with = any(array(
                    select w.died_with from evented_deliveries w where w.id = any($1::bytea[])))
                order by o.id for update))",
        )
        .bind(died)
        .execute(&mut session.conn)
        .await?;
    session
        .sql(
            "update evented_deliveries d set lease = null, deaths = d.deaths + 1, died_with = d.session,
                pending = d.suspect = 2, suspect = case when d.deaths >= 1 then 2 else 1 end,
                due_at = 9223372036854775807 - case when d.deaths >= 1 then 2 else 1 end
             where d.id = any($1::bytea[])",
        )
        .bind(died)
        .execute(&mut session.conn)
        .await?;
    Ok(())
}

/// Leases deliveries that this transaction holds; answers them in this order, each with its handler's number.
async fn lease(
    session: &mut Session,
    ids: &[[u8; 16]],
    lease: Duration,
    holder: SessionId,
) -> Result<Vec<(i32, Claimed)>, SqlxError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let token = LeaseToken::mint();
    let rows = session
        .sql(concat!(
            "update evented_deliveries d set lease = $2, due_at = ",
            sql::now_ms!(),
            " + $3, session = $4, charges = d.charges + d.pending::int4, pending = false
             where d.id = any($1::bytea[])
             returning ",
            columns!(),
            ", (select h.id from evented_handlers h where h.num = d.handler), array_position($1::bytea[], d.id)"
        ))
        .bind(ids)
        .bind(token.to_i64())
        .bind(time::delay_ms(lease))
        .bind(holder.to_i64())
        .fetch_all(&mut session.conn)
        .await?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in &rows {
        let name: &str = row.try_get(16)?;
        claimed.push((row.try_get::<i32, _>(17)?, row.try_get(0)?, read_one(row, 0, Arc::from(name), token)?));
    }
    claimed.sort_unstable_by_key(|(place, ..)| *place);
    Ok(claimed.into_iter().map(|(_, handler, claimed)| (handler, claimed)).collect())
}

/// The handlers that suspects are asked for, in queues that are not paused.
macro_rules! asked {
    () => {
        "asked as materialized (
            select h.num, a.version from unnest($1::text[], $2::int4[], $3::text[]) a(name, version, queue)
            cross join lateral (select h.num from evented_handlers h where h.id = a.name offset 0) h
            where coalesce((select not q.paused from evented_queues q where q.name = a.queue), true)
         )"
    };
}

/// The first of those that wait to be exposed.
const EXPOSE: &str = concat!(
    "with ",
    asked!(),
    " select d.id from asked a cross join lateral (
        select d.id, d.seq from evented_deliveries d
        where d.handler = a.num and d.due_at = $4 and d.version <= a.version
        order by d.seq limit $5 for update skip locked) d
      order by d.seq limit $5"
);

/// The first of those that wait to be tried and can be: each lease of the session that died with it has ended, all that is exposed
/// of what it had is settled, and the session that asks has lived long enough for the charges that are held against it. What died
/// with a session is found by its index: `+ 0` and `offset 0` keep the planner from others.
const CAN_BE_TRIED: &str = concat!(
    "with ",
    asked!(),
    " select d.id from asked a cross join lateral (
        select d.id, d.seq, d.died_with, d.charges + d.pending::int4 as charges from evented_deliveries d
        where d.handler = a.num and d.due_at = $4 and d.version <= a.version
        order by d.seq limit $5) d
      where least(d.charges, $6) = any($7::int4[])
        and not exists (select from evented_sessions s where s.id = d.died_with and s.until + s.lease_ms > ",
    sql::now_ms!(),
    ")
        and not exists (select from evented_deliveries o
            where o.died_with = d.died_with and o.suspect = 1 and o.handler + 0 = any(array(select w.num from asked w))
            offset 0)
      order by d.seq limit 8"
);

/// Whether one waits.
const MORE: &str = concat!(
    "with ",
    asked!(),
    " select exists (select from asked a cross join lateral (
        select d.seq from evented_deliveries d where d.handler = a.num and d.due_at between $4 and $5 limit 1) d)"
);

/// Binds the three values of `asked`.
fn bind(statement: Sql, queues: &[ClaimQueue]) -> Sql {
    let handlers = || queues.iter().flat_map(|queue| queue.handlers.iter().map(move |handler| (queue, handler)));
    statement
        .bind(handlers().map(|(_, handler)| &*handler.name).collect::<Vec<_>>())
        .bind(handlers().map(|(_, handler)| version_column(handler.version)).collect::<Vec<_>>())
        .bind(handlers().map(|(queue, _)| &*queue.name).collect::<Vec<_>>())
}

/// Claims suspects.
pub(super) async fn claim(session: &mut Session, asked: &Suspects) -> Result<Suspected, SqlxError> {
    let mut ids: Vec<[u8; 16]> = Vec::new();
    if asked.exposed > 0 {
        let expose = bind(session.sql(EXPOSE), &asked.queues)
            .bind(EXPOSED)
            .bind(i64::try_from(asked.exposed).unwrap_or(i64::MAX));
        for row in expose.fetch_all(&mut session.conn).await? {
            ids.push(row.try_get(0)?);
        }
    }
    let tried = match asked.tried {
        Some(lived) => to_be_tried(session, asked, lived).await?,
        None => None,
    };
    ids.extend(tried);
    let mut suspected = Suspected::default();
    let mut counts = Counts::new();
    for (handler, claimed) in lease(session, &ids, asked.lease, asked.session).await? {
        counts.entry(handler).or_default()[4] += 1;
        if Some(claimed.lease.delivery.to_bytes()) == tried {
            suspected.tried = Some(claimed);
        } else {
            suspected.exposed.push(claimed);
        }
    }
    count(session, &counts).await?;
    let more = bind(session.sql(MORE), &asked.queues).bind(TRIED).bind(EXPOSED);
    suspected.more = more.fetch_one(&mut session.conn).await?.try_get(0)?;
    Ok(suspected)
}

/// Holds the first suspect that can be tried by a session which has lived so long.
async fn to_be_tried(session: &mut Session, asked: &Suspects, lived: Duration) -> Result<Option<[u8; 16]>, SqlxError> {
    let charges_max = CHARGES_MAX.cast_signed();
    let lived_enough = (0..=CHARGES_MAX).filter(|charges| lived >= lived_for_trial(asked.lease, *charges));
    let charges: Vec<_> = lived_enough.map(u32::cast_signed).collect();
    let can_be =
        bind(session.sql(CAN_BE_TRIED), &asked.queues).bind(TRIED).bind(CANDIDATES).bind(charges_max).bind(charges);
    let candidates = can_be.fetch_all(&mut session.conn).await?;
    if candidates.is_empty() {
        return Ok(None);
    }
    let held = session
        .sql(
            "select d.id from evented_deliveries d where d.id = any($1::bytea[]) and d.due_at = $2
             order by d.seq limit 1 for update skip locked",
        )
        .bind(candidates.iter().map(|row| row.try_get(0)).collect::<Result<Vec<[u8; 16]>, _>>()?)
        .bind(TRIED)
        .fetch_optional(&mut session.conn)
        .await?;
    held.map(|row| row.try_get(0)).transpose()
}

/// What a renewal came to.
struct Renewed {
    held: HashSet<([u8; 16], i64)>,
    /// The session was alive, or new.
    was_alive: bool,
}

/// Renews a session, and of its leases what is still held, as far as nobody else has the row in hand: the claim that would take
/// it passes such a row by as well, and a settlement in between needs no renewal. Answers for each lease whether it is held; and
/// whether the session has come back.
pub(super) async fn extend(
    link: &Link,
    session: SessionId,
    leases: &[Lease],
    lease: Duration,
) -> Result<(Vec<bool>, bool), StoreError> {
    let asked = (session, leases, lease);
    let renewed = link.run(&asked, |link, asked| Box::pin(renew(link, asked.0, asked.1, asked.2))).await?;
    if !renewed.was_alive {
        link.transact(&(session, lease), |link, asked| Box::pin(come_back(link, asked.0, asked.1))).await?;
    }
    let held = leases.iter().map(|lease| renewed.held.contains(&sql::key(lease))).collect();
    Ok((held, !renewed.was_alive))
}

async fn renew(
    link: &mut Session,
    session: SessionId,
    leases: &[Lease],
    lease: Duration,
) -> Result<Renewed, SqlxError> {
    let (ids, tokens) = fence(leases.iter());
    let row = link
        .sql(concat!(
            "with clock as materialized (select ",
            sql::now_ms!(),
            " as ms),
             alive as (
                insert into evented_sessions as s (id, until, lease_ms) values ($4, (select ms from clock) + $3, $3)
                on conflict (id) do update set until = excluded.until, lease_ms = excluded.lease_ms
                where s.until > (select ms from clock) returning s.id
             ),
             renewed as (
                update evented_deliveries d set due_at = (select ms from clock) + $3 where d.id = any(array(
                    select d.id from evented_deliveries d where ",
            sql::leased!("$1", "$2"),
            " for update skip locked))
             )
             select array_agg(d.id), array_agg(d.lease), exists (select from alive) from evented_deliveries d where ",
            sql::leased!("$1", "$2")
        ))
        .bind(ids)
        .bind(tokens)
        .bind(time::delay_ms(lease))
        .bind(session.to_i64())
        .fetch_one(&mut link.conn)
        .await?;
    let ids: Vec<[u8; 16]> = row.try_get::<Option<_>, _>(0)?.unwrap_or_default();
    let tokens: Vec<i64> = row.try_get::<Option<_>, _>(1)?.unwrap_or_default();
    Ok(Renewed { held: ids.into_iter().zip(tokens).collect(), was_alive: row.try_get(2)? })
}

/// A session that was dead is alive, and takes back the deaths that it was.
async fn come_back(link: &mut Session, session: SessionId, lease: Duration) -> Result<(), SqlxError> {
    // Held from here on: who was about to say that it has died has said so, and nobody else will.
    link.sql(concat!(
        "insert into evented_sessions as s (id, until, lease_ms) values ($1, ",
        sql::now_ms!(),
        " + $2, $2) on conflict (id) do update set until = excluded.until, lease_ms = excluded.lease_ms"
    ))
    .bind(session.to_i64())
    .bind(time::delay_ms(lease))
    .execute(&mut link.conn)
    .await?;
    link.sql(concat!(
        "update evented_deliveries d set deaths = greatest(d.deaths - 1, 0), pending = false, died_with = null,
            suspect = case when d.deaths <= 1 then 0 when d.deaths = 2 then 1 else 2 end,
            due_at = case when d.lease is not null or d.due_at < 9223372036854775805 then d.due_at
                when d.deaths <= 1 then ",
        sql::now_ms!(),
        " else 9223372036854775807 - case when d.deaths = 2 then 1 else 2 end end
         where d.id = any(array(
            select o.id from evented_deliveries o where o.died_with = $1 order by o.id for update))"
    ))
    .bind(session.to_i64())
    .execute(&mut link.conn)
    .await?;
    Ok(())
}

/// Forgets a session.
pub(super) async fn leave(link: &mut Session, session: SessionId) -> Result<(), SqlxError> {
    link.sql("delete from evented_sessions where id = $1").bind(session.to_i64()).execute(&mut link.conn).await?;
    Ok(())
}
