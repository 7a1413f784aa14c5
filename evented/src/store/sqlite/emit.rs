//! Emitting in a transaction: the row, in the outbox's own file alone.

use std::path::Path;

use sqlx::{Database, Error as SqlxError, Pool, Sqlite, SqliteConnection, query, query_scalar};
use sqlx_core::transaction::TransactionManager as _;

use crate::{
    error::{Error, ErrorKind},
    store::{
        Pending, Store, borrowed,
        tx::{Beginning, Committing, Inserting, NewRow, Outboxed, Ran, Statement, Taken, Value},
    },
    time,
};

use super::{SqliteStore, file, file::store_name, push::bytes, transact::BEGIN, turn, writer::is_busy};

impl Outboxed for Sqlite {
    const KIND: &'static str = "SQLite";

    fn insert_row<'a>(conn: &'a mut SqliteConnection, row: &'a NewRow) -> Inserting<'a> {
        Box::pin(async move {
            if row.known {
                return Ok(insert_anywhere(conn, row).await?);
            }
            let Err(error) = insert_here(conn, row).await else { return Ok(()) };
            if is_busy(&error) {
                // It began by reading, and another has written since: SQLite cannot let it write any more.
                let text = "the transaction cannot write any more, since another wrote after it began; begin it with \
                            `evented::begin(&pool)`, which takes the write lock first";
                return Err(Error::new(ErrorKind::Database, text).because(error));
            }
            let file: String =
                query_scalar("select file from pragma_database_list where name = 'main'").fetch_one(&mut *conn).await?;
            let outbox = outbox(row);
            if outbox.strip_prefix("sqlite:") == Some(&*file) {
                return Err(error.into());
            }
            // SQLite's own way of writing the path is the usual one; the real path is asked for where it differs.
            if store_name(Path::new(&file)) == outbox {
                return Ok(insert_anywhere(conn, row).await?);
            }
            let text = format!(
                "this transaction is of the file `{file}`, but `run()` was given the outbox {outbox}; emit in a transaction of \
                 that pool, or give `run()` this one with `.outbox(pool)`"
            );
            Err(Error::new(ErrorKind::NoOutbox, text))
        })
    }

    fn statements(row: &NewRow) -> Vec<Statement> {
        statements(row)
    }

    fn explain(row: &NewRow, error: &sqlx::Error) -> Option<Error> {
        explain(row, error)
    }

    fn run<'a>(conn: &'a mut SqliteConnection, statement: &'a Statement) -> Ran<'a> {
        Box::pin(async move { Ok(run(conn, statement).await?) })
    }

    fn begin(pool: &Pool<Self>) -> Beginning<'_, Self> {
        Box::pin(async move {
            loop {
                // First the connection: whoever has the turn must not wait for one.
                let mut taken = borrowed::take(pool).await?;
                let turn = turn::take(pool.connect_options().get_filename()).await;
                if BEGIN.on(&mut taken).await? {
                    return Ok((Taken(taken), turn));
                }
            }
        })
    }

    /// Where there is no transaction any more, SQLite says so itself.
    fn commit(conn: &mut SqliteConnection) -> Committing<'_> {
        Box::pin(<Self as Database>::TransactionManager::commit(conn))
    }

    fn open(pool: Pool<Self>) -> Pending<'static, Store> {
        Box::pin(SqliteStore::open_outbox(pool))
    }
}

/// A row, in the outbox's own file alone: in another the payload is null, which the table refuses. So the usual case is one
/// statement.
const INSERT_HERE: &str = "insert into evented_outbox (event_id, event, due_at, version, emitted_at, correlation, payload)
     values (?, ?, ?, ?, ?, ?, iif((select 'sqlite:' || file from pragma_database_list where name = 'main') = ?, ?, null))
     on conflict (event_id, event) do nothing";

/// A row, wherever its path is another way of writing the outbox's.
const INSERT_ANYWHERE: &str =
    "insert into evented_outbox (event_id, event, due_at, version, emitted_at, correlation, payload)
     values (?, ?, ?, ?, ?, ?, iif(? is null, null, ?)) on conflict (event_id, event) do nothing";

/// Where the outbox's file is. A copy of it has another path, and another identity.
fn outbox(row: &NewRow) -> String {
    file::named(&row.outbox).unwrap_or_else(|| row.outbox.to_string())
}

/// Inserts one row in the caller's transaction, where that is of the outbox's file; an event that is there already is left as
/// it is.
async fn insert_here(conn: &mut SqliteConnection, row: &NewRow) -> Result<(), SqlxError> {
    insert_row(conn, INSERT_HERE, row).await
}

/// The same without a look at the file.
async fn insert_anywhere(conn: &mut SqliteConnection, row: &NewRow) -> Result<(), SqlxError> {
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
        .bind(outbox(row))
        .bind(&*row.payload)
        .execute(conn)
        .await?;
    Ok(())
}

/// The row as a statement for a transaction of another library.
fn statements(row: &NewRow) -> Vec<Statement> {
    let values = vec![
        Value::Bytes(Some(bytes(row.event_id.to_bytes()))),
        Value::Text(Some(row.event.to_owned())),
        Value::Integer(Some(time::due_at(row.delay))),
        Value::Integer(Some(row.version.into())),
        Value::Integer(Some(time::unix_ms())),
        Value::Bytes(row.origin.to_bytes(row.event_id)),
        Value::Text(Some(outbox(row))),
        Value::Bytes(Some(row.payload.to_vec())),
    ];
    vec![Statement::new(INSERT_HERE, values)]
}

/// What it means that such a statement failed: in another file the table is missing, or refuses the row.
fn explain(row: &NewRow, error: &SqlxError) -> Option<Error> {
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
            outbox(row)
        );
        Error::new(ErrorKind::NoOutbox, text)
    })
}

async fn run(conn: &mut SqliteConnection, statement: &Statement) -> Result<u64, SqlxError> {
    let bound = statement.values().iter().fold(query(statement.sql()), |query, value| match value {
        Value::Bytes(bytes) => query.bind(bytes.as_deref()),
        Value::Text(text) => query.bind(text.as_deref()),
        Value::Integer(number) => query.bind(*number),
    });
    Ok(bound.execute(conn).await?.rows_affected())
}
