//! Settling, and claiming with it, in one transaction.

use std::{collections::HashMap, time::Duration};

use sqlx::{AssertSqlSafe, Error as SqlxError, Executor as _, MySqlConnection, Row as _, query};

use crate::{
    store::{Claim, Exchanged, Outcome, Settlement},
    time,
};

use super::{
    claim::{self, Due},
    counts::{Counted, Counts, write_all},
    keys,
    link::{NO_SUCH_TABLE, Running, code, read, write},
    sql::{NEVER, now_ms, numbers, sorted},
};

/// What an exchange is asked for.
pub(super) struct Exchange<'e> {
    pub settlements: &'e [Settlement],
    pub claim: Option<&'e Claim>,
    /// What is due, where that was looked up before.
    pub due: Option<Due>,
}

/// Settles, then claims. Answers also how many rows of counts that has left.
pub(super) fn exchange<'a>(conn: &'a mut MySqlConnection, asked: &'a Exchange<'_>) -> Running<'a, (Exchanged, u64)> {
    Box::pin(async move {
        match settle_and_claim(conn, asked).await {
            // Dropped: nothing is held any more, and the tables are made again as soon as somebody reads the catalogue.
            Err(error) if code(&error) == Some(NO_SUCH_TABLE) => {
                conn.execute("rollback").await?;
                let held = vec![false; asked.settlements.len()];
                Ok((Exchanged { held, generation: asked.claim.map(|_| 0), ..Exchanged::default() }, 0))
            }
            exchanged => exchanged,
        }
    })
}

async fn settle_and_claim(conn: &mut MySqlConnection, asked: &Exchange<'_>) -> Result<(Exchanged, u64), SqlxError> {
    let mut counts = Counts::default();
    let held = settle(conn, asked.settlements, &mut counts).await?;
    let Some(claim) = asked.claim else {
        write_all(conn, counts.statements()).await?;
        return Ok((Exchanged { held, ..Exchanged::default() }, counts.rows()));
    };
    let found;
    let due = if let Some(due) = &asked.due {
        due
    } else {
        found = claim::due(conn, claim, asked.settlements).await?;
        &found
    };
    let claims = claim::lease(conn, due, claim, &mut counts).await?;
    Ok((Exchanged { held, claims, generation: Some(due.generation) }, counts.rows()))
}

/// Settles what is still held; the answer says which was. One statement for each way to end.
async fn settle(
    conn: &mut MySqlConnection,
    settlements: &[Settlement],
    counts: &mut Counts,
) -> Result<Vec<bool>, SqlxError> {
    if settlements.is_empty() {
        return Ok(Vec::new());
    }
    let ends = |settlement: &&Settlement| {
        settlement.lease.ordered && matches!(settlement.outcome, Outcome::Completed | Outcome::Dead { .. })
    };
    let ordered: Vec<_> = settlements.iter().filter(ends).map(|settlement| settlement.lease.row).collect();
    let keys = keys::lock_of(conn, &ordered).await?;
    // The rows are locked from here on: what is held now is held at the commit.
    let text = format!(
        "select seq, handler, lease from evented_deliveries where seq in ({}) and lease is not null for update",
        numbers(sorted(settlements.iter().map(|settlement| settlement.lease.row)))
    );
    let mut leased: HashMap<(i64, i64), i64> = HashMap::new();
    for row in read(conn, text).await? {
        leased.insert((row.try_get(0)?, row.try_get(2)?), row.try_get(1)?);
    }
    let mut held = Vec::with_capacity(settlements.len());
    let (mut completed, mut released) = (Vec::new(), Vec::new());
    let (mut retried, mut dead) = (Vec::new(), Vec::new());
    for Settlement { lease, outcome } in settlements {
        let handler = leased.remove(&(lease.row, lease.token.to_i64()));
        held.push(handler.is_some());
        let Some(handler) = handler else { continue };
        counts.add(handler, Counted::Running, -1);
        let counted = match outcome {
            Outcome::Completed => {
                completed.push(lease.row);
                Counted::Done
            }
            Outcome::Retry { delay, error } => {
                retried.push((lease.row, *delay, &**error));
                Counted::Retried
            }
            Outcome::Dead { failed, error } => {
                dead.push((lease.row, *failed, &**error));
                Counted::Dead
            }
            Outcome::Released => {
                released.push(lease.row);
                continue;
            }
        };
        counts.add(handler, counted, 1);
        if counted != Counted::Retried {
            counts.add(handler, Counted::Stored, -1);
        }
    }
    retry(conn, &retried).await?;
    bury(conn, &dead).await?;
    if !released.is_empty() {
        // A suspect is the suspect that it was.
        let text = format!(
            concat!(
                "update evented_deliveries set lease = null, due_at = if(suspect = 0, ",
                now_ms!(),
                ", {} - suspect) where seq in ({})"
            ),
            NEVER,
            numbers(released)
        );
        write(conn, text).await?;
    }
    completed.extend(dead.iter().map(|(row, ..)| *row));
    if !completed.is_empty() {
        write(conn, format!("delete from evented_deliveries where seq in ({})", numbers(completed))).await?;
    }
    keys::let_heads_go(conn, &keys).await?;
    Ok(held)
}

async fn retry(conn: &mut MySqlConnection, retried: &[(i64, Duration, &str)]) -> Result<(), SqlxError> {
    if retried.is_empty() {
        return Ok(());
    }
    let delays = retried.iter().map(|(row, delay, _)| format!(" when {row} then {}", time::delay_ms(*delay)));
    let errors = retried.iter().map(|(row, ..)| format!(" when {row} then ?"));
    let text = format!(
        concat!(
            "update evented_deliveries set lease = null, suspect = 0, deaths = 0, charges = 0, pending = 0, died_with = null,
                failed = failed + 1, due_at = ",
            now_ms!(),
            " + case seq{} end, error = case seq{} end where seq in ({})"
        ),
        delays.collect::<String>(),
        errors.collect::<String>(),
        numbers(retried.iter().map(|(row, ..)| *row))
    );
    let mut update = query(AssertSqlSafe(text)).persistent(false);
    for (.., error) in retried {
        update = update.bind(*error);
    }
    update.execute(conn).await?;
    Ok(())
}

/// Copies deliveries to the dead letters.
async fn bury(conn: &mut MySqlConnection, dead: &[(i64, u32, &str)]) -> Result<(), SqlxError> {
    if dead.is_empty() {
        return Ok(());
    }
    let failed = dead.iter().map(|(row, failed, _)| format!(" when {row} then {failed}"));
    let errors = dead.iter().map(|(row, ..)| format!(" when {row} then ?"));
    let text = format!(
        concat!(
            "insert into evented_dead_letters (id, event_id, handler, failed, deaths, attempts_max, backoff_first_ms,
                backoff_max_ms, timeout_ms, version, emitted_at, died_at, correlation, error, payload, order_key)
             select id, event_id, handler, case seq{} end, deaths, attempts_max, backoff_first_ms, backoff_max_ms,
                timeout_ms, version, emitted_at, ",
            now_ms!(),
            ", correlation, case seq{} end, payload, order_key
             from evented_deliveries where seq in ({}) order by seq"
        ),
        failed.collect::<String>(),
        errors.collect::<String>(),
        numbers(dead.iter().map(|(row, ..)| *row))
    );
    let mut insert = query(AssertSqlSafe(text)).persistent(false);
    for (.., error) in dead {
        insert = insert.bind(*error);
    }
    insert.execute(conn).await?;
    Ok(())
}
