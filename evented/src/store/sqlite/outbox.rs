//! The outbox: rows written in the application's transactions, and their way to deliveries.

use std::{any::Any, collections::HashMap, time::Duration};

use ref_cast::RefCast;
use sqlx::{
    Connection, Error as SqlxError, Row as _, Sqlite, SqliteConnection, Transaction, query, query_as, query_scalar,
    sqlite::SqliteRow,
};

use crate::{
    error::{Error, ErrorKind, StoreError, Written},
    id::{DeliveryId, LeaseToken},
    origin::Origin,
    store::{
        Claims, Fan, Lease, OutboxRow, Relay, Relayed, TxCall, TxEnd,
        borrowed::{Beginning, Borrowed, Fence},
        tx::{NewRow, Statement, Tx, Value},
    },
    time,
};

use super::{
    queue::{bytes, claim, count, event_id, insert, remove, to_json},
    writer::{Running, is_busy, is_constraint, read_failed},
};

/// The lease of a row that waits for others of its order key; never a token, which is odd.
const WAITS_FOR_OTHERS: i64 = 0;
/// When such a row is looked at again.
const OTHERS_LOOK: Duration = Duration::from_millis(20);

/// A row, in the outbox's own file alone: in another the payload is null, which the table refuses. So the usual case is one
/// statement.
const INSERT_HERE: &str = "insert into evented_outbox (event_id, event, due_at, version, emitted_at, correlation, payload)
     values (?, ?, ?, ?, ?, ?, iif((select 'sqlite:' || file from pragma_database_list where name = 'main') = ?, ?, null))
     on conflict (event_id, event) do nothing";

/// A row, wherever its path is another way of writing the outbox's.
const INSERT_ANYWHERE: &str =
    "insert into evented_outbox (event_id, event, due_at, version, emitted_at, correlation, payload)
     values (?, ?, ?, ?, ?, ?, iif(? is null, null, ?)) on conflict (event_id, event) do nothing";

/// Inserts one row in the caller's transaction, where that is of the outbox's file; an event that is there already is left as
/// it is.
pub(in crate::store) async fn insert_here(conn: &mut SqliteConnection, row: &NewRow) -> Result<(), SqlxError> {
    insert_row(conn, INSERT_HERE, row).await
}

/// The same without a look at the file.
pub(in crate::store) async fn insert_anywhere(conn: &mut SqliteConnection, row: &NewRow) -> Result<(), SqlxError> {
    insert_row(conn, INSERT_ANYWHERE, row).await
}

async fn insert_row(conn: &mut SqliteConnection, sql: &'static str, row: &NewRow) -> Result<(), SqlxError> {
    query(sql)
        .bind(bytes(row.event_id.to_bytes()))
        .bind(row.event)
        .bind(time::due_at(row.delay))
        .bind(row.version)
        .bind(time::unix_ms())
        .bind(row.origin.to_bytes(row.event_id))
        .bind(row.outbox.as_str())
        .bind(&*row.payload)
        .execute(conn)
        .await?;
    Ok(())
}

/// The row as a statement for a transaction of another library.
pub(in crate::store) fn statements(row: &NewRow) -> Vec<Statement> {
    let values = vec![
        Value::Bytes(Some(bytes(row.event_id.to_bytes()))),
        Value::Text(Some(row.event.to_owned())),
        Value::Integer(Some(time::due_at(row.delay))),
        Value::Integer(Some(row.version.into())),
        Value::Integer(Some(time::unix_ms())),
        Value::Bytes(row.origin.to_bytes(row.event_id)),
        Value::Text(Some(row.outbox.to_string())),
        Value::Bytes(Some(row.payload.to_vec())),
    ];
    vec![Statement::new(INSERT_HERE, values)]
}

/// What it means that such a statement failed: in another file the table is missing, or refuses the row.
pub(in crate::store) fn explain(row: &NewRow, error: &SqlxError) -> Option<Error> {
    if is_busy(error) {
        let text = "the transaction could not take the write lock, or another has written since it read; begin it with \
                    `BEGIN IMMEDIATE`, which waits for the lock first";
        return Some(Error::new(ErrorKind::Database, text));
    }
    let elsewhere = ["no such table: evented_outbox", "NOT NULL constraint failed: evented_outbox.payload"];
    elsewhere.contains(&error.as_database_error()?.message()).then(|| {
        let text = format!(
            "this transaction is of another file than the outbox {}, which `run()` was given; emit in a transaction of that \
             file, or give `run()` this one with `.outbox(pool)`",
            row.outbox
        );
        Error::new(ErrorKind::NoOutbox, text)
    })
}

pub(in crate::store) async fn run(conn: &mut SqliteConnection, statement: &Statement) -> Result<u64, SqlxError> {
    let bound = statement.values().iter().fold(query(statement.sql()), |query, value| match value {
        Value::Bytes(bytes) => query.bind(bytes.as_deref()),
        Value::Text(text) => query.bind(text.as_deref()),
        Value::Integer(number) => query.bind(*number),
    });
    Ok(bound.execute(conn).await?.rows_affected())
}

/// Due rows, in few columns, since each one costs allocations on its way through the driver. The generation of the catalogue
/// is read with them.
const TAKE: &str = "select format('%d %d %d %d', seq, version, emitted_at, (select catalogue from evented_schema)),
        event_id, event, correlation, payload
     from evented_outbox where due_at <= ?1 order by due_at, seq limit ?2";

/// One turn of the relay, inside the writer's transaction.
pub(super) fn relay<'a>(conn: &'a mut SqliteConnection, relay: &'a Relay) -> Running<'a, Relayed> {
    Box::pin(async move {
        let now = time::unix_ms();
        let limit = i64::try_from(relay.rows).unwrap_or(i64::MAX);
        let rows = query(TAKE).bind(now).bind(limit).fetch_all(&mut *conn).await?;
        let mut batch = Vec::with_capacity(rows.len());
        for row in &rows {
            let (row, generation) = read(row)?;
            if generation.cast_unsigned() != relay.generation {
                return Ok(Relayed { catalogue_moved: true, ..Relayed::default() });
            }
            batch.push(row);
        }
        if batch.is_empty() {
            return Ok(Relayed { next_due: next_row(conn).await?, ..Relayed::default() });
        }
        // In the order of their commits, whenever they were due.
        batch.sort_by_key(|row| row.row);
        let fans: Vec<_> = batch.iter().map(|row| (relay.fan_out)(row)).collect();
        let first_elsewhere =
            if fans.iter().any(Fan::is_ordered) { first_elsewhere(conn, &batch, now).await? } else { None };
        let token = LeaseToken::mint();
        let mut relayed = Relayed::default();
        let mut here = Vec::new();
        let mut done = Vec::new();
        // Rows whose lease and time change: the row, its lease, and how long until it may be taken.
        let mut put_off: Vec<(i64, Option<i64>, Duration)> = Vec::new();
        for (row, fan) in batch.into_iter().zip(fans) {
            if fan.is_ordered() && first_elsewhere.is_some_and(|first| first < row.row) {
                put_off.push((row.row, Some(WAITS_FOR_OTHERS), OTHERS_LOOK));
            } else if let Some(later) = fan.later {
                put_off.push((row.row, None, later));
            } else if fan.elsewhere.is_empty() {
                here.extend(fan.here);
                done.push(row.row);
            } else {
                put_off.push((row.row, Some(token.to_i64()), relay.lease));
                here.extend(fan.here);
                relayed.claimed.push(OutboxRow { token: Some(token), ..row });
            }
        }
        insert(conn, here.iter()).await?;
        delete_rows(conn, &done).await?;
        lease(conn, &put_off).await?;
        relayed.done = done.len();
        let claims = match &relay.claim {
            Some(asked) if relayed.done > 0 => claim(conn, asked, &[]).await?,
            _ => Claims::default(),
        };
        Ok(relayed.with(&here, claims))
    })
}

/// A row of `TAKE`, and the generation of the catalogue.
fn read(row: &SqliteRow) -> Result<(OutboxRow, i64), SqlxError> {
    let numbers: &str = row.try_get(0)?;
    let mut numbers = numbers.split(' ');
    let mut next =
        || -> Result<i64, SqlxError> { numbers.next().unwrap_or_default().parse().map_err(SqlxError::decode) };
    let (seq, version, emitted_unix_ms, generation) = (next()?, next()?, next()?, next()?);
    let event_id = event_id(row.try_get(1)?)?;
    let row = OutboxRow {
        row: seq,
        token: None,
        event_id,
        event: row.try_get(2)?,
        origin: Origin::from_bytes(event_id, row.try_get(3)?),
        version: u32::try_from(version).map_err(SqlxError::decode)?,
        emitted_unix_ms,
        target: None,
        payload: row.try_get::<&[u8], _>(4)?.into(),
    };
    Ok((row, generation))
}

/// The first row that another relay has, or has left to take: deliveries of an order key wait for it, since it may have their
/// key. One that waits so itself holds up those behind it.
async fn first_elsewhere(conn: &mut SqliteConnection, batch: &[OutboxRow], now: i64) -> Result<Option<i64>, SqlxError> {
    let batch: Vec<i64> = batch.iter().map(|row| row.row).collect();
    query_scalar(
        "select min(seq) from evented_outbox
         where (lease is not null or due_at <= ?1) and seq not in (select value from json_each(?2))",
    )
    .bind(now)
    .bind(to_json(&batch)?)
    .fetch_one(conn)
    .await
}

/// Leases rows, or puts them off.
async fn lease(conn: &mut SqliteConnection, rows: &[(i64, Option<i64>, Duration)]) -> Result<(), SqlxError> {
    if rows.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = rows.iter().map(|(row, lease, later)| (row, lease, time::due_at(*later))).collect();
    query(
        "update evented_outbox set lease = coalesce(n.value ->> 1, lease), due_at = n.value ->> 2
         from json_each(?) n where seq = n.value ->> 0",
    )
    .bind(to_json(&rows)?)
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

/// Replaces leased rows by their outbox deliveries; a row whose lease was lost is another relay's now.
#[expect(clippy::ptr_arg, reason = "a write takes its input as it was sent")]
pub(super) fn finish<'a>(conn: &'a mut SqliteConnection, rows: &'a Vec<OutboxRow>) -> Running<'a, Vec<bool>> {
    Box::pin(async move {
        let asked: Vec<i64> = rows.iter().map(|row| row.row).collect();
        let leases: Vec<(i64, Option<i64>)> =
            query_as("select seq, lease from evented_outbox where seq in (select value from json_each(?))")
                .bind(to_json(&asked)?)
                .fetch_all(&mut *conn)
                .await?;
        let leases: HashMap<i64, i64> = leases.into_iter().filter_map(|(row, lease)| Some((row, lease?))).collect();
        let is_held = |row: &OutboxRow| row.token.is_some_and(|token| leases.get(&row.row) == Some(&token.to_i64()));
        let finished: Vec<bool> = rows.iter().map(is_held).collect();
        let (held, lost): (Vec<_>, Vec<_>) = rows.iter().partition(|row| is_held(row));
        for row in lost {
            tracing::warn!(event_id = %row.event_id, "the relay lost its lease on an outbox row; another has it");
        }
        let done: Vec<i64> = held.iter().map(|row| row.row).collect();
        delete_rows(conn, &done).await?;
        Ok(finished)
    })
}

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
            count(&mut tx, handler, 1, 0, 0).await.map_err(failed)?;
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

pub(super) async fn rows(conn: &mut SqliteConnection) -> Result<u64, SqlxError> {
    let rows: i64 = query_scalar("select count(*) from evented_outbox").fetch_one(conn).await?;
    Ok(rows.cast_unsigned())
}

/// How long until the next outbox row is due; zero when one is.
pub(super) async fn next_row(conn: &mut SqliteConnection) -> Result<Option<Duration>, SqlxError> {
    let due_at: Option<i64> = query_scalar("select min(due_at) from evented_outbox").fetch_one(conn).await?;
    Ok(due_at.map(|due_at| time::from_millis(due_at.saturating_sub(time::unix_ms()))))
}
