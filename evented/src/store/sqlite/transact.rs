//! A handler's transaction: its fence, its writes and its settlement are one commit.

use std::any::Any;

use ref_cast::RefCast;
use sqlx::{Connection, Error as SqlxError, Sqlite, SqliteConnection, Transaction, query, query_scalar};

use crate::{
    error::{StoreError, Written},
    id::DeliveryId,
    store::{
        Fence, Lease, TxCall, TxEnd,
        borrowed::{Beginning, Borrowed},
        tx::Tx,
    },
    time,
};

use super::{
    counts::Counts,
    push::bytes,
    settle::remove,
    writer::{is_busy, is_constraint, read_failed},
};

/// How a transaction begins that will write, of the application's and of handlers.
pub(super) const BEGIN: Beginning = Beginning {
    sql: "BEGIN IMMEDIATE",
    is_inside: |error| error.as_database_error().is_some_and(|error| error.message().contains("within a transaction")),
    is_harmless: is_busy,
};

/// Runs a transactional handler: fence, writes and settlement in one commit of the application's pool.
pub(super) async fn transact(
    mut borrowed: Borrowed<Sqlite>,
    fence: Fence<'_>,
    call: TxCall<'_>,
) -> Result<TxEnd, StoreError> {
    let failed = |error: SqlxError| read_failed("the transaction of a handler could not go on", &error).because(error);
    let mut tx = match borrowed.conn.begin_with(BEGIN.sql).await {
        Ok(tx) => tx,
        Err(error) => {
            // A lock that others hold is no fault of the connection.
            borrowed.clean = is_busy(&error);
            if (BEGIN.is_inside)(&error) {
                let text = "a connection of the application's pool was inside a transaction already, and was closed";
                return Err(StoreError::transient(text, Written::Nothing).because(error));
            }
            return Err(failed(error));
        }
    };
    let refused = match &fence {
        Fence::Lease(lease) => (!is_held(&mut tx, lease).await.map_err(failed)?).then_some(TxEnd::Lost),
        Fence::Once(delivery) => ran_before(&mut tx, *delivery).await.map_err(failed)?.then_some(TxEnd::Committed),
    };
    if let Some(end) = refused {
        tx.rollback().await.map_err(failed)?;
        borrowed.clean = true;
        return Ok(end);
    }
    // The handler works inside a savepoint. If it ended the transaction, the savepoint is gone and its release fails:
    // nothing is settled then.
    let mut savepoint = tx.begin().await.map_err(failed)?;
    let ended = {
        let tx: &mut (dyn Any + Send) = Tx::<Sqlite>::ref_cast_mut(&mut *savepoint);
        call(tx).await
    };
    let error = match ended {
        Ok(()) => match savepoint.commit().await {
            Ok(()) => {
                let end = settle(tx, &fence).await?;
                borrowed.clean = !matches!(end, TxEnd::Failed(_));
                return Ok(end);
            }
            Err(error) => format!("the handler ended its transaction itself: {error}").into(),
        },
        Err(error) => {
            if savepoint.rollback().await.is_ok() {
                borrowed.clean = tx.rollback().await.is_ok();
            }
            error
        }
    };
    Ok(TxEnd::Failed(error))
}

async fn is_held(conn: &mut SqliteConnection, lease: &Lease) -> Result<bool, SqlxError> {
    let held: Option<i64> = query_scalar("select 1 from evented_deliveries where seq = ?1 and lease = ?2")
        .bind(lease.row)
        .bind(lease.token.to_i64())
        .fetch_optional(conn)
        .await?;
    Ok(held.is_some())
}

async fn ran_before(conn: &mut SqliteConnection, delivery: DeliveryId) -> Result<bool, SqlxError> {
    let ran: Option<i64> = query_scalar("select 1 from evented_inbox where delivery = ?")
        .bind(bytes(delivery.to_bytes()))
        .fetch_optional(conn)
        .await?;
    Ok(ran.is_some())
}

/// The end of a handler that did well: the settlement, last before the commit.
async fn settle(mut tx: Transaction<'_, Sqlite>, fence: &Fence<'_>) -> Result<TxEnd, StoreError> {
    let failed = |error: SqlxError| read_failed("a handler's delivery could not be settled", &error).because(error);
    match fence {
        Fence::Lease(lease) => {
            let Some(handler) = remove(&mut tx, **lease).await.map_err(failed)? else {
                tx.rollback().await.map_err(failed)?;
                return Ok(TxEnd::Lost);
            };
            let mut counts = Counts::default();
            counts.done(handler);
            counts.write(&mut tx).await.map_err(failed)?;
        }
        Fence::Once(delivery) => {
            let ran = query("insert into evented_inbox (delivery, at) values (?, ?)");
            let ran = ran.bind(bytes(delivery.to_bytes())).bind(time::unix_ms());
            ran.execute(&mut *tx).await.map_err(failed)?;
        }
    }
    match tx.commit().await {
        Ok(()) => Ok(TxEnd::Committed),
        // A deferred constraint: the handler's writes are at fault, and the transaction was not committed.
        Err(error) if is_constraint(&error) => Ok(TxEnd::Failed(error.into())),
        Err(error) => {
            let text = "it is not known whether the handler's transaction committed";
            Err(StoreError::transient(text, Written::Unknown).because(error))
        }
    }
}
