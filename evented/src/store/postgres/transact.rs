//! Transactional handlers: fence, writes and settlement in one commit of the application's pool.
//!
//! A handler works inside a savepoint. Where it ended its transaction itself the savepoint is gone, its release fails, and
//! nothing is settled.

use std::{any::Any, time::Duration};

use ref_cast::RefCast;
use sqlx::{
    AssertSqlSafe, Connection as _, Error as SqlxError, Executor as _, PgConnection, PgPool, Postgres, Row as _,
    Transaction, postgres::PgTransactionManager, query, raw_sql,
};
use sqlx_core::transaction::TransactionManager as _;

use crate::{
    error::{BoxError, StoreError, Written},
    store::{
        Fence, Lease, TxCall, TxEnd,
        borrowed::{self, Beginning},
        tx::Tx,
    },
    time,
};

use super::{
    keys,
    link::{self, failed, is_conflict, is_lost},
    sql,
};

/// How long another run of the same delivery is waited for.
const ELSEWHERE_MAX: &str = "60s";
/// How long to look whether a server is there that has ended a connection.
const IS_THERE: Duration = Duration::from_secs(1);

/// The transaction has begun with the statement that says so: in one that was open it had begun before.
macro_rules! is_new {
    () => {
        "select 1 / (transaction_timestamp() = statement_timestamp())::int"
    };
}

/// How a transaction of the application's begins. Inside another that nobody ended, the server only warns. It will write, whatever
/// the role or the pool has by default.
pub(super) const BEGIN: Beginning = Beginning {
    sql: concat!("begin read write; ", is_new!()),
    is_inside: |error| matches!(link::code(error).as_deref(), Some("22012" | "25P02")),
    is_harmless: |_| false,
};

/// How it ends. A transaction that has failed is rolled back by `commit`, which the driver takes for a commit; and outside of one, the
/// server only warns. In both no savepoint can be set, and what follows in the text is not run. Where it is, an empty transaction
/// follows.
const COMMIT: &str = "savepoint evented_commit; commit and chain";

/// Commits what [`BEGIN`] began.
pub(super) async fn commit(conn: &mut PgConnection) -> Result<(), SqlxError> {
    raw_sql(COMMIT).execute(&mut *conn).await?;
    // The driver counts the transactions that it ends itself: the empty one. It is sent along with the pool's own look at what comes
    // back, and nobody waits for it.
    PgTransactionManager::start_rollback(conn);
    Ok(())
}

/// How a handler's begins. It says its isolation, whatever role, database and pool do: the settlement must see what others have
/// committed while the handler ran, such as a renewal of its lease. What is ours is set up to the savepoint alone.
const BEGIN_HANDLER: &str =
    concat!("begin isolation level read committed read write; ", is_new!(), "; savepoint evented_handler");

/// Where our tables are, and how they are seen.
#[derive(Clone, Copy)]
pub(super) struct Ours<'a> {
    pub schema: &'a str,
    pub row_security: &'static str,
}

/// What our statements depend on in a transaction of the application's. They find each row by its index, whatever the planner knew
/// of the table when it was empty.
fn ours(Ours { schema, row_security }: Ours<'_>) -> String {
    format!(
        "set local search_path = {schema}, pg_temp; set local enable_seqscan = off; set local lock_timeout = 0;
         set local statement_timeout = 9000; set local row_security = {row_security}"
    )
}

/// Runs a transactional handler.
pub(super) async fn transact(
    pool: &PgPool,
    place: Ours<'_>,
    fence: Fence<'_>,
    call: TxCall<'_>,
) -> Result<TxEnd, StoreError> {
    let mut borrowed = borrowed::take(pool).await.map_err(|error| {
        let text = "no connection of the application's pool came free for a handler's transaction";
        failed(text, false, error)
    })?;
    let could_not = |error: SqlxError| failed("the transaction of a handler could not go on", false, error);
    let mut tx = borrowed.conn.begin_with(BEGIN_HANDLER).await.map_err(|error| {
        if (BEGIN.is_inside)(&error) {
            let text = "a connection of the application's pool was inside a transaction already, and was closed";
            return StoreError::transient(text, Written::Nothing).because(error);
        }
        could_not(error)
    })?;
    if let Some(end) = enter(&mut tx, place, &fence).await.map_err(could_not)? {
        tx.rollback().await.map_err(could_not)?;
        borrowed.clean = true;
        return Ok(end);
    }
    let ended = {
        let tx: &mut (dyn Any + Send) = Tx::<Postgres>::ref_cast_mut(&mut *tx);
        call(tx).await
    };
    let (error, lost) = match ended {
        Ok(()) => match leave(&mut tx, place).await {
            Ok(()) => {
                let end = settle(tx, &fence).await?;
                borrowed.clean = !matches!(end, TxEnd::Failed(_));
                return Ok(end);
            }
            Err(error) => {
                let lost = is_lost(&error);
                (what_it_did(error), lost)
            }
        },
        Err(error) => match tx.execute("rollback to savepoint evented_handler").await {
            Ok(_) => {
                borrowed.clean = tx.rollback().await.is_ok();
                return Ok(TxEnd::Failed(error));
            }
            Err(rollback) => {
                let lost = is_lost(&rollback);
                (error, lost)
            }
        },
    };
    drop(tx);
    drop(borrowed);
    // A server that goes away is not the handler's fault. One that is there has ended this connection alone: for what the
    // handler did, or for its taking so long.
    let gone = lost && !matches!(time::within(IS_THERE, pool.acquire()).await, Some(Ok(_)));
    if gone {
        let text = "the connection to the database was lost in a handler's transaction";
        return Err(StoreError::transient(text, Written::Nothing).because(error));
    }
    Ok(TxEnd::Failed(error))
}

/// Looks at the fence and opens the handler's savepoint; or says how it ended before it began.
async fn enter(tx: &mut PgConnection, place: Ours<'_>, fence: &Fence<'_>) -> Result<Option<TxEnd>, SqlxError> {
    match fence {
        Fence::Lease(lease) => {
            // The savepoint stays, and the settings are the application's again. Numbers alone, so that all goes in one round trip.
            let text = format!(
                "{}; select 1 from evented_deliveries where id = decode('{:032x}', 'hex') and lease = {};
                 rollback to savepoint evented_handler",
                ours(place),
                u128::from_be_bytes(lease.delivery.to_bytes()),
                lease.token.to_i64()
            );
            if sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&mut *tx).await?.is_empty() {
                return Ok(Some(TxEnd::Lost));
            }
        }
        Fence::Once(delivery) => {
            // First of all, so that another run of the same delivery waits here for the end of this one. The process of that one
            // may stand still for ever: the delivery is tried later then. The limit is for this wait alone.
            let new = query(AssertSqlSafe(format!(
                "with was as materialized (
                    select current_setting('lock_timeout') as setting, set_config('lock_timeout', '{ELSEWHERE_MAX}', true))
                 insert into {}.evented_inbox (delivery, at) select $1, {} from was
                 on conflict (delivery) do nothing returning (select setting from was)",
                place.schema,
                sql::now_ms!()
            )))
            .bind(delivery.to_bytes())
            .fetch_optional(&mut *tx)
            .await?;
            let Some(new) = new else { return Ok(Some(TxEnd::Committed)) };
            let setting: String = new.try_get(0)?;
            let text = format!("set local lock_timeout = '{}'; savepoint evented_handler", setting.replace('\'', "''"));
            raw_sql(AssertSqlSafe(text)).execute(&mut *tx).await?;
        }
    }
    Ok(None)
}

/// Releases the handler's savepoint.
async fn leave(tx: &mut PgConnection, place: Ours<'_>) -> Result<(), SqlxError> {
    let text = format!("release savepoint evented_handler; {}", ours(place));
    sqlx::raw_sql(AssertSqlSafe(text)).execute(tx).await?;
    Ok(())
}

/// Why a handler that returned `Ok` cannot be settled.
fn what_it_did(error: SqlxError) -> BoxError {
    match link::code(&error).as_deref() {
        Some("25P02") => format!(
            "a statement of the handler failed, and it returned `Ok` all the same: the transaction cannot be committed: \
             {error}"
        )
        .into(),
        // Outside of a transaction, or in one without the savepoint.
        Some("25P01" | "3B001") => format!("the handler ended its transaction itself: {error}").into(),
        _ => error.into(),
    }
}

/// The end of a handler that did well: the settlement, last before the commit.
async fn settle(mut tx: Transaction<'_, Postgres>, fence: &Fence<'_>) -> Result<TxEnd, StoreError> {
    if let Fence::Lease(lease) = fence {
        match complete(&mut tx, lease).await {
            Ok(true) => {}
            Ok(false) => {
                let rolled_back = tx.rollback().await;
                rolled_back.map_err(|error| failed("a handler's transaction could not be undone", false, error))?;
                return Ok(TxEnd::Lost);
            }
            Err(error) if is_handlers(&error) => return Ok(TxEnd::Failed(error.into())),
            Err(error) => return Err(failed("a handler's delivery could not be settled", false, error)),
        }
    }
    match tx.commit().await {
        Ok(()) => Ok(TxEnd::Committed),
        Err(error) if is_handlers(&error) => Ok(TxEnd::Failed(error.into())),
        Err(error) => {
            let text = "it is not known whether the handler's transaction committed";
            Err(StoreError::transient(text, Written::Unknown).because(error))
        }
    }
}

/// Whether the server has refused what the handler wrote: a deferred constraint or trigger, which may say anything, or a
/// conflict with another transaction. Nothing was committed.
fn is_handlers(error: &SqlxError) -> bool {
    let servers = |code: String| ["53", "57", "58", "08", "25"].iter().any(|class| code.starts_with(class));
    is_conflict(error) || link::code(error).is_some_and(|code| !servers(code))
}

/// Ends the delivery, and lets the next of its order key go. Answers whether the lease was held.
async fn complete(tx: &mut PgConnection, lease: &Lease) -> Result<bool, SqlxError> {
    let id = lease.delivery.to_bytes();
    let mut held_keys: Vec<[u8; 16]> = Vec::new();
    if lease.ordered {
        let rows = query(keys::LOCK_OF).bind([id]).fetch_all(&mut *tx).await?;
        held_keys = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    }
    let done = query(
        "with gone as (delete from evented_deliveries where id = $1 and lease = $2 returning handler)
         insert into evented_counts (handler, done, retried, dead, stored, running)
         select handler, 1, 0, 0, -1, -1 from gone",
    )
    .bind(id)
    .bind(lease.token.to_i64())
    .execute(&mut *tx)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    if !held_keys.is_empty() {
        query(keys::LET_HEADS_GO).bind(held_keys).execute(&mut *tx).await?;
    }
    Ok(true)
}
