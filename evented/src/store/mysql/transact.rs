//! A handler's transaction, on a connection of the application's pool: fence, writes and settlement in one commit.
//!
//! It is READ COMMITTED, whatever the pool's own isolation: the settlement must see what others have committed while the
//! handler ran, such as a renewal of its lease.

use std::any::Any;

use ref_cast::RefCast;
use sqlx::{Connection as _, Error as SqlxError, Executor as _, MySql, MySqlConnection, Row as _, Transaction};

use crate::{
    error::{StoreError, Written},
    store::{
        Fence, Lease, TxCall, TxEnd,
        borrowed::{Beginning, Borrowed},
        tx::Tx,
    },
};

use super::{
    counts::{Counted, Counts, write_all},
    keys,
    link::{DUPLICATE, code, failed, sql},
    sql::now_ms,
};

/// The handler works inside the savepoint. If it ended the transaction, that is gone and its release fails: nothing is settled
/// then.
const BEGIN_HANDLER: &str =
    "rollback and no chain no release; set transaction isolation level read committed; start transaction read write;
    savepoint evented_handler";

/// How a transaction of the application's begins. A connection that is inside one would commit it with that, unsaid: what nobody
/// committed is undone before.
pub(super) const BEGIN: Beginning = Beginning {
    sql: "rollback and no chain no release; start transaction read write",
    is_inside: |_| false,
    is_harmless: |_| false,
};

/// How long a delivery is waited for that runs elsewhere, in seconds.
const ELSEWHERE_MAX: i64 = 60;

/// How a transaction goes on after the look at its fence.
enum Begun {
    /// The delivery's handler, by its number, where the delivery is stored here.
    Runs(Option<i64>),
    Ends(TxEnd),
}

fn could_not(error: SqlxError) -> StoreError {
    failed("the transaction of a handler could not go on", false, error)
}

/// Runs a transactional handler on this connection.
pub(super) async fn transact(
    mut borrowed: Borrowed<MySql>,
    fence: Fence<'_>,
    call: TxCall<'_>,
) -> Result<TxEnd, StoreError> {
    // A lock of the session: it outlasts a commit of the handler's own, and ends with the connection.
    let lock = match &fence {
        Fence::Once(delivery) => Some(format!("evented:{delivery}")),
        Fence::Lease(_) => None,
    };
    if let Some(lock) = &lock
        && !take(&mut borrowed.conn, lock).await.map_err(could_not)?
    {
        borrowed.clean = true;
        return Err(StoreError::transient("the delivery runs elsewhere", Written::Nothing));
    }
    let (end, clean) = run(&mut borrowed.conn, fence, call).await?;
    borrowed.clean = clean;
    if let Some(lock) = lock.filter(|_| clean) {
        borrowed.clean = sql("do release_lock(?)").bind(lock).execute(&mut *borrowed.conn).await.is_ok();
    }
    Ok(end)
}

/// Answers the end, and whether the connection is as it was.
async fn run(conn: &mut MySqlConnection, fence: Fence<'_>, call: TxCall<'_>) -> Result<(TxEnd, bool), StoreError> {
    let mut tx = conn.begin_with(BEGIN_HANDLER).await.map_err(could_not)?;
    let handler = match look(&mut tx, &fence).await.map_err(could_not)? {
        Begun::Runs(handler) => handler,
        Begun::Ends(end) => {
            tx.rollback().await.map_err(could_not)?;
            return Ok((end, true));
        }
    };
    let ended = {
        let tx: &mut (dyn Any + Send) = Tx::<MySql>::ref_cast_mut(&mut *tx);
        call(tx).await
    };
    match ended {
        Ok(()) => match tx.execute("release savepoint evented_handler").await {
            Ok(_) => Ok((settle(tx, &fence, handler).await?, true)),
            Err(error) => {
                let error = format!("the handler ended its transaction itself: {error}");
                Ok((TxEnd::Failed(error.into()), false))
            }
        },
        Err(error) => {
            let clean =
                tx.execute("rollback to savepoint evented_handler").await.is_ok() && tx.rollback().await.is_ok();
            Ok((TxEnd::Failed(error), clean))
        }
    }
}

async fn take(conn: &mut MySqlConnection, lock: &str) -> Result<bool, SqlxError> {
    let row = sql("select get_lock(?, ?)").bind(lock.to_owned()).bind(ELSEWHERE_MAX).fetch_one(conn).await?;
    Ok(row.try_get::<Option<bool>, _>(0)? == Some(true))
}

async fn look(conn: &mut MySqlConnection, fence: &Fence<'_>) -> Result<Begun, SqlxError> {
    match fence {
        Fence::Lease(lease) => {
            let held = sql("select cast(handler as signed) from evented_deliveries where seq = ? and lease = ?")
                .bind(lease.row)
                .bind(lease.token.to_i64())
                .fetch_optional(conn)
                .await?;
            let handler = held.map(|row| row.try_get(0)).transpose()?;
            Ok(if handler.is_some() { Begun::Runs(handler) } else { Begun::Ends(TxEnd::Lost) })
        }
        Fence::Once(delivery) => {
            let ran = sql("select 1 from evented_inbox where delivery = ?")
                .bind(delivery.to_bytes().to_vec())
                .fetch_optional(conn)
                .await?;
            Ok(if ran.is_some() { Begun::Ends(TxEnd::Committed) } else { Begun::Runs(None) })
        }
    }
}

/// The end of a handler that did well: the settlement, last before the commit.
async fn settle(mut tx: Transaction<'_, MySql>, fence: &Fence<'_>, handler: Option<i64>) -> Result<TxEnd, StoreError> {
    let could_not = |error| failed("a handler's delivery could not be settled", false, error);
    let refused = match fence {
        Fence::Lease(lease) => {
            let settled = delete(&mut tx, lease, handler).await.map_err(could_not)?;
            (!settled).then_some(TxEnd::Lost)
        }
        Fence::Once(delivery) => {
            let ran = sql(concat!("insert into evented_inbox (delivery, at) values (?, ", now_ms!(), ")"))
                .bind(delivery.to_bytes().to_vec())
                .execute(&mut *tx)
                .await;
            match ran {
                Ok(_) => None,
                Err(error) if code(&error) == Some(DUPLICATE) => Some(TxEnd::Committed),
                Err(error) => return Err(could_not(error)),
            }
        }
    };
    if let Some(end) = refused {
        tx.rollback().await.map_err(could_not)?;
        return Ok(end);
    }
    match tx.commit().await {
        Ok(()) => Ok(TxEnd::Committed),
        Err(error) => {
            let text = "it is not known whether the handler's transaction committed";
            Err(StoreError::transient(text, Written::Unknown).because(error))
        }
    }
}

/// Deletes the delivery if its lease is still held, counts it, and lets the next of its order key go.
async fn delete(conn: &mut MySqlConnection, lease: &Lease, handler: Option<i64>) -> Result<bool, SqlxError> {
    let keys = if lease.ordered { keys::lock_of(conn, &[lease.row]).await? } else { Vec::new() };
    let deleted = sql("delete from evented_deliveries where seq = ? and lease = ?")
        .bind(lease.row)
        .bind(lease.token.to_i64())
        .execute(&mut *conn)
        .await?;
    if deleted.rows_affected() == 0 {
        return Ok(false);
    }
    let mut counts = Counts::default();
    if let Some(handler) = handler {
        counts.add(handler, Counted::Stored, -1);
        counts.add(handler, Counted::Running, -1);
        counts.add(handler, Counted::Done, 1);
    }
    write_all(conn, counts.statements()).await?;
    keys::let_heads_go(conn, &keys).await?;
    Ok(true)
}
