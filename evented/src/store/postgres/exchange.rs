//! Settling, and claiming with it: one statement where all was completed, a transaction where not.

use std::{collections::HashSet, time::Duration};

use sqlx::{Error as SqlxError, Row as _, postgres::PgRow};

use crate::{
    error::StoreError,
    id::LeaseToken,
    store::{Claim, Exchanged, Lease, Outcome, Settlement},
    time,
};

use super::{
    claim::{self, Answer, Asked, CLAIM, CLAIM_BESIDE, answer, claim},
    counts::{Counts, count},
    floors::{Floors, GOOD_FOR, handlers},
    keys,
    link::{Link, Session},
    sql::{self, fence, storable},
    suspects,
};

/// Deletes what is completed and still leased.
macro_rules! settled {
    ($ids:literal, $tokens:literal) => {
        concat!(
            "settled as (
        delete from evented_deliveries d where ",
            sql::leased!($ids, $tokens),
            "
        returning d.id, d.lease, d.handler
    ),
    ended as (
        select count(*) as count,
            case when count(*) < cardinality(",
            $ids,
            "::bytea[]) then array_agg(s.id) end as ids,
            case when count(*) < cardinality(",
            $ids,
            "::bytea[]) then array_agg(s.lease) end as tokens
        from settled s
    )"
        )
    };
}

/// Settles and claims, each row for one of the two: both see what was there before, when a delivery whose lease has ended
/// and which is settled now is due.
const EXCHANGE: &str = concat!(
    "with ",
    settled!("$13", "$14"),
    ", ",
    claim!("", "and (d.lease is null or d.id <> all($13::bytea[]))"),
    ",
    counted as (
        insert into evented_counts (handler, done, retried, dead, stored, running)
        select c.handler, sum(c.done), 0, 0, -sum(c.done), sum(c.running) from (
            select s.handler, 1 as done, -1 as running from settled s
            union all select l.handler, 0, 1 from leased l) c
        group by c.handler
    )
    select e.*, ",
    answer!(),
    " from ended e cross join asked_for a left join leased l on true"
);

const SETTLE: &str = concat!(
    "with ",
    settled!("$1", "$2"),
    ",
    counted as (
        insert into evented_counts (handler, done, retried, dead, stored, running)
        select s.handler, count(*), 0, 0, -count(*), -count(*) from settled s group by s.handler
    )
    select e.* from ended e"
);

/// Settles, then claims.
pub(super) async fn exchange(
    link: &Link,
    floors: &Floors,
    settlements: &[Settlement],
    claim: Option<&Claim>,
) -> Result<Exchanged, StoreError> {
    let Some(claim) = claim else {
        let (held, _) = run(link, settlements, None).await?;
        return Ok(Exchanged { held, ..Exchanged::default() });
    };
    let known = floors.of(claim);
    let from_the_beginning = known.is_none();
    let beginning = || handlers(claim).map(|_| 0).collect();
    let asked = Asked { claim, floors: known.unwrap_or_else(beginning), lapsed: claim.lapsed };
    let began = time::now();
    let (held, mut answer) = run(link, settlements, Some(&asked)).await?;
    floors.learn(claim, &answer, from_the_beginning.then(|| began.elapsed()));
    let mut surely = from_the_beginning;
    // A second look would find what was given back just now, which is left for another claim.
    let gives_back = settlements
        .iter()
        .zip(&held)
        .any(|(settlement, held)| *held && matches!(settlement.outcome, Outcome::Retry { .. } | Outcome::Released));
    if !gives_back
        && answer.claims.deliveries.is_empty()
        && answer.ended.is_empty()
        && !from_the_beginning
        && floors.may_read_on()
    {
        let asked = Asked { claim, floors: beginning(), lapsed: claim.lapsed };
        let began = time::now();
        // What is settled is settled: should this fail, the next exchange says so.
        if let Ok((_, looked)) = run(link, &[], Some(&asked)).await {
            floors.learn(claim, &looked, Some(began.elapsed()));
            answer = looked;
            surely = true;
        }
    }
    let (mut claims, generation) = (answer.claims, answer.generation);
    if !answer.ended.is_empty() {
        // What is settled is settled here as well.
        match suspects::judge(link, claim, answer.ended).await {
            Ok(judged) => {
                // They were stored before the others, most likely.
                claims.deliveries.splice(..0, judged.interrupted);
                claims.suspects = judged.suspects;
            }
            Err(error) => {
                tracing::debug!(error = %crate::error::in_one_line(&error), "ended leases are left to the next claim");
            }
        }
    }
    if !surely {
        // The next claim after this reads from the beginning, and says when.
        claims.next_due = Some(claims.next_due.unwrap_or(GOOD_FOR).min(GOOD_FOR));
    }
    if claims.suspects {
        // They took the places of others that are due.
        claims.next_due = Some(Duration::ZERO);
    }
    Ok(Exchanged { held, claims, generation })
}

/// One exchange, in the cheapest way that can express it.
async fn run(
    link: &Link,
    settlements: &[Settlement],
    claim: Option<&Asked<'_>>,
) -> Result<(Vec<bool>, Answer), StoreError> {
    let plain = |settlement: &Settlement| matches!(settlement.outcome, Outcome::Completed) && !settlement.lease.ordered;
    if !settlements.iter().all(plain) {
        let asked = (settlements, claim);
        return link.transact(&asked, |session, asked| Box::pin(settle_all(session, asked.0, asked.1))).await;
    }
    match claim {
        Some(claim) if settlements.is_empty() => {
            let answer = link.run(claim, |session, claim| Box::pin(run_claim(session, claim))).await?;
            Ok((Vec::new(), answer))
        }
        Some(claim) => {
            let asked = (settlements, claim);
            link.run(&asked, |session, asked| Box::pin(settle_and_claim(session, asked.0, asked.1))).await
        }
        None if settlements.is_empty() => Ok((Vec::new(), Answer::default())),
        None => {
            let held = link.run(&settlements, |session, settlements| Box::pin(settle(session, settlements))).await?;
            Ok((held, Answer::default()))
        }
    }
}

/// Ends completed deliveries, and claims others.
async fn settle_and_claim(
    session: &mut Session,
    settlements: &[Settlement],
    claim: &Asked<'_>,
) -> Result<(Vec<bool>, Answer), SqlxError> {
    let token = LeaseToken::mint();
    let (ids, tokens) = fence(leases(settlements));
    let statement = claim::bind(session.sql(EXCHANGE), claim, token).bind(ids).bind(tokens);
    let rows = statement.fetch_all(&mut session.conn).await?;
    let first = rows.first().ok_or(SqlxError::RowNotFound)?;
    let held = read_held(first, leases(settlements))?;
    Ok((held, claim::read(&rows, 3, claim.claim, token)?))
}

/// Ends completed deliveries.
async fn settle(session: &mut Session, settlements: &[Settlement]) -> Result<Vec<bool>, SqlxError> {
    let (ids, tokens) = fence(leases(settlements));
    let row = session.sql(SETTLE).bind(ids).bind(tokens).fetch_one(&mut session.conn).await?;
    read_held(&row, leases(settlements))
}

fn leases(settlements: &[Settlement]) -> impl Iterator<Item = &Lease> {
    settlements.iter().map(|settlement| &settlement.lease)
}

async fn run_claim(session: &mut Session, claim: &Asked<'_>) -> Result<Answer, SqlxError> {
    let token = LeaseToken::mint();
    let rows = claim::bind(session.sql(CLAIM), claim, token).fetch_all(&mut session.conn).await?;
    claim::read(&rows, 0, claim.claim, token)
}

pub(super) async fn claim_beside(
    session: &mut Session,
    claim: &Asked<'_>,
    except: &[[u8; 16]],
) -> Result<Answer, SqlxError> {
    let token = LeaseToken::mint();
    let rows = claim::bind(session.sql(CLAIM_BESIDE), claim, token).bind(except).fetch_all(&mut session.conn).await?;
    claim::read(&rows, 0, claim.claim, token)
}

/// Which leases were still held: all of them, or those that are named.
fn read_held<'a>(row: &PgRow, leases: impl Iterator<Item = &'a Lease>) -> Result<Vec<bool>, SqlxError> {
    let count: i64 = row.try_get(0)?;
    let ids: Option<Vec<[u8; 16]>> = row.try_get(1)?;
    let tokens: Option<Vec<i64>> = row.try_get(2)?;
    let ended: HashSet<_> = ids.unwrap_or_default().into_iter().zip(tokens.unwrap_or_default()).collect();
    let all = ended.is_empty() && count > 0;
    Ok(leases.map(|lease| all || ended.contains(&sql::key(lease))).collect())
}

/// What a transaction of settlements has found so far.
#[derive(Default)]
struct Settled {
    held: HashSet<([u8; 16], i64)>,
    counts: Counts,
}

impl Settled {
    /// Takes rows of `id, lease, handler`, each of which changes the counts so.
    fn take(&mut self, rows: &[PgRow], change: [i64; 5]) -> Result<(), SqlxError> {
        for row in rows {
            self.held.insert((row.try_get(0)?, row.try_get(1)?));
            let counts = self.counts.entry(row.try_get(2)?).or_default();
            counts.iter_mut().zip(change).for_each(|(count, change)| *count += change);
        }
        Ok(())
    }
}

/// Settles whatever became of deliveries, one statement for each way to end.
async fn settle_all(
    session: &mut Session,
    settlements: &[Settlement],
    claim: Option<&Asked<'_>>,
) -> Result<(Vec<bool>, Answer), SqlxError> {
    let mut settled = Settled::default();
    let (mut completed, mut released) = (Vec::new(), Vec::new());
    let (mut retried, mut dead) = (Vec::new(), Vec::new());
    let mut ordered = Vec::new();
    for Settlement { lease, outcome } in settlements {
        match outcome {
            Outcome::Completed => completed.push(lease),
            Outcome::Retry { delay, error } => retried.push((lease, *delay, &**error)),
            Outcome::Dead { failed, error } => dead.push((lease, *failed, &**error)),
            Outcome::Released => released.push(lease),
        }
        if lease.ordered && matches!(outcome, Outcome::Completed | Outcome::Dead { .. }) {
            ordered.push(lease.delivery.to_bytes());
        }
    }
    let keys = if ordered.is_empty() { ordered } else { keys::lock_of(session, &ordered).await? };
    if !completed.is_empty() {
        settled.take(&complete(session, &completed).await?, [1, 0, 0, -1, -1])?;
    }
    if !retried.is_empty() {
        settled.take(&retry(session, &retried).await?, [0, 1, 0, 0, -1])?;
    }
    if !dead.is_empty() {
        settled.take(&bury(session, &dead).await?, [0, 0, 1, -1, -1])?;
    }
    if !released.is_empty() {
        settled.take(&release(session, &released).await?, [0, 0, 0, 0, -1])?;
    }
    keys::let_heads_go(session, &keys).await?;
    count(session, &settled.counts).await?;
    let answer = match claim {
        Some(claim) => {
            // A late settlement has given nothing back.
            let is_held = |lease: &Lease| settled.held.contains(&sql::key(lease));
            let retried = retried.iter().map(|(lease, delay, _)| (*lease, *delay));
            let released = released.iter().map(|lease| (*lease, Duration::ZERO));
            let given_back: Vec<_> = retried.chain(released).filter(|(lease, _)| is_held(lease)).collect();
            let soonest = given_back.iter().map(|(_, delay)| *delay).min();
            let given_back: Vec<_> = given_back.iter().map(|(lease, _)| lease.delivery.to_bytes()).collect();
            let mut answer = claim_beside(session, claim, &given_back).await?;
            answer.claims.next_due = answer.claims.next_due.into_iter().chain(soonest).min();
            answer
        }
        None => Answer::default(),
    };
    let held = settlements.iter().map(|settlement| settled.held.contains(&sql::key(&settlement.lease))).collect();
    Ok((held, answer))
}

async fn complete(session: &mut Session, leases: &[&Lease]) -> Result<Vec<PgRow>, SqlxError> {
    let (ids, tokens) = fence(leases.iter().copied());
    session
        .sql(concat!(
            "delete from evented_deliveries d where ",
            sql::leased!("$1", "$2"),
            " returning d.id, d.lease, d.handler"
        ))
        .bind(ids)
        .bind(tokens)
        .fetch_all(&mut session.conn)
        .await
}

async fn retry(session: &mut Session, retried: &[(&Lease, Duration, &str)]) -> Result<Vec<PgRow>, SqlxError> {
    let (ids, tokens) = fence(retried.iter().map(|(lease, ..)| *lease));
    session
        .sql(concat!(
            "with clock as materialized (select ",
            sql::now_ms!(),
            " as ms)
             update evented_deliveries d set lease = null, failed = d.failed + 1, suspect = 0, deaths = 0,
                charges = 0, pending = false, died_with = null, error = ",
            sql::readable!("r.error"),
            ",
                due_at = (select ms from clock) + r.delay
             from unnest($1::bytea[], $2::int8[], $3::int8[], $4::bytea[]) r(id, lease, delay, error)
             where d.id = any($1::bytea[]) and d.id = r.id and d.lease = r.lease
             returning d.id, r.lease, d.handler"
        ))
        .bind(ids)
        .bind(tokens)
        .bind(retried.iter().map(|(_, delay, _)| time::delay_ms(*delay)).collect::<Vec<_>>())
        .bind(retried.iter().map(|(.., error)| storable(error)).collect::<Vec<_>>())
        .fetch_all(&mut session.conn)
        .await
}

/// Moves deliveries to the dead letters.
async fn bury(session: &mut Session, dead: &[(&Lease, u32, &str)]) -> Result<Vec<PgRow>, SqlxError> {
    let (ids, tokens) = fence(dead.iter().map(|(lease, ..)| *lease));
    session
        .sql(concat!(
            "with gone as (
                delete from evented_deliveries d using unnest($1::bytea[], $2::int8[], $3::int4[], $4::bytea[])
                    l(id, lease, failed, error)
                where d.id = any($1::bytea[]) and d.id = l.id and d.lease = l.lease
                returning d.*, l.failed as failed_in_all, ",
            sql::readable!("l.error"),
            " as last_error
             ),
             letters as (
                insert into evented_dead_letters (id, event_id, handler, failed, deaths, attempts_max, backoff_first_ms,
                    backoff_max_ms, timeout_ms, version, emitted_at, died_at, correlation, error, payload, order_key)
                select id, event_id, handler, failed_in_all, deaths, attempts_max, backoff_first_ms, backoff_max_ms,
                    timeout_ms, version, emitted_at, ",
            sql::now_ms!(),
            ", correlation, last_error, payload, order_key from gone
             )
             select id, lease, handler from gone"
        ))
        .bind(ids)
        .bind(tokens)
        .bind(dead.iter().map(|(_, failed, _)| failed.cast_signed()).collect::<Vec<_>>())
        .bind(dead.iter().map(|(.., error)| storable(error)).collect::<Vec<_>>())
        .fetch_all(&mut session.conn)
        .await
}

/// Gives deliveries back: a suspect is the suspect that it was.
async fn release(session: &mut Session, leases: &[&Lease]) -> Result<Vec<PgRow>, SqlxError> {
    let (ids, tokens) = fence(leases.iter().copied());
    session
        .sql(concat!(
            "update evented_deliveries d set lease = null,
                due_at = case when d.suspect = 0 then ",
            sql::now_ms!(),
            " else 9223372036854775807 - d.suspect end
             from unnest($1::bytea[], $2::int8[]) r(id, lease)
             where d.id = any($1::bytea[]) and d.id = r.id and d.lease = r.lease
             returning d.id, r.lease, d.handler"
        ))
        .bind(ids)
        .bind(tokens)
        .fetch_all(&mut session.conn)
        .await
}
