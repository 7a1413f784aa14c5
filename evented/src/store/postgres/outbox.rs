//! The outbox's rows, as they are written in the application's transactions.

use sqlx::{Error as SqlxError, PgConnection, query, query_scalar};

use crate::{
    error::{Error, ErrorKind},
    store::tx::{NewRow, Statement, Value},
    time,
};

use super::{
    link, schema,
    sql::{self, version_column},
};

/// Inserts the row where `$7` is the outbox's identity, asked for by `$version` or by `$where`.
macro_rules! insert {
    ($version:expr, $where:expr) => {
        concat!(
            "insert into evented_outbox (event_id, event, due_at, emitted_at, version, correlation, payload)
             select $1::bytea, $2::text, case when $3::int8 > 0 then c.ms + $3::int8 else 0 end, c.ms, ",
            $version,
            ", $5::bytea, $6::bytea
             from (select ",
            sql::now_ms!(),
            " as ms offset 0) c ",
            $where,
            " on conflict (event_id, event) do nothing"
        )
    };
}

/// The identity of the database that the statement is in; one whose name is gone has the outbox's, until that is made again.
macro_rules! here {
    (server) => {
        schema::identity_and_server!("split_part($7::text, '/', 1)")
    };
    (database) => {
        schema::identity!("split_part($7::text, '/', 1)")
    };
}

/// In another database it writes nothing, and the transaction goes on.
macro_rules! insert_here {
    ($what:ident) => {
        insert!("$4::int8::int4", concat!("where ", here!($what), " = $7::text"))
    };
}

/// In another database it fails, with a text that says so: a number that is none.
macro_rules! insert_or_fail {
    ($what:ident) => {
        insert!(
            concat!(
                "case when ",
                here!($what),
                " = $7::text then $4::int8
                else ('this transaction is of another database than the outbox that evented was given; ' || ",
                here!($what),
                ")::int8
             end::int4"
            ),
            ""
        )
    };
}

/// The same insert, and its commit tells all who listen to the channel (`schema.rs` names it). One row, where one is inserted.
macro_rules! notifying {
    ($insert:expr) => {
        concat!(
            "with written as (",
            $insert,
            " returning event_id)
             select pg_notify('evented_' || 'evented_schema'::regclass::oid, '') from written"
        )
    };
}

const READ_ONLY: &str = "the transaction is read only, so no event can be emitted in it; begin it with `evented::begin(&pool)`, or as \
                         `begin read write`";

/// The statement, where the server may be asked which it is and where not, with a notification and without.
macro_rules! choose {
    ($insert:ident, $row:expr) => {
        match ($row.outbox.as_str().matches('/').count() > 1, $row.notify) {
            (true, false) => $insert!(server),
            (true, true) => notifying!($insert!(server)),
            (false, false) => $insert!(database),
            (false, true) => notifying!($insert!(database)),
        }
    };
}

/// In a transaction in which an earlier row went there.
const INSERT_KNOWN: &str = insert!("$4::int8::int4", "where $7::text is not null");

/// Inserts one row in the caller's transaction; an event that is there already is left as it is.
pub(in crate::store) async fn insert_row(conn: &mut PgConnection, row: &NewRow) -> Result<(), Error> {
    let sql = match (row.known, row.notify) {
        (true, false) => INSERT_KNOWN,
        (true, true) => notifying!(insert!("$4::int8::int4", "where $7::text is not null")),
        (false, _) => choose!(insert_here, row),
    };
    let done = query(sql)
        .bind(row.event_id.to_bytes())
        .bind(row.event)
        .bind(time::delay_ms(row.delay))
        .bind(i64::from(version_column(row.version)))
        .bind(row.origin.to_bytes(row.event_id))
        .bind(&*row.payload)
        .bind(row.outbox.as_str())
        .execute(&mut *conn)
        .await
        .map_err(refused)?;
    if done.rows_affected() > 0 || row.known {
        return Ok(());
    }
    // It is there already, or this is another database.
    let sql = if row.outbox.as_str().matches('/').count() > 1 {
        concat!("select ", schema::identity_and_server!("split_part($1::text, '/', 1)"))
    } else {
        concat!("select ", schema::identity!("split_part($1::text, '/', 1)"))
    };
    let identity: Option<String> =
        query_scalar(sql).bind(row.outbox.as_str()).fetch_one(conn).await.map_err(refused)?;
    if identity.as_deref() == Some(row.outbox.as_str()) { Ok(()) } else { Err(elsewhere()) }
}

fn elsewhere() -> Error {
    let text = "this transaction is of another database than the outbox that `run()` was given, or has another search path; \
                emit in a transaction of that pool, or give `run()` this one with `.outbox(pool)`";
    Error::new(ErrorKind::NoOutbox, text)
}

/// A database without our tables, or with those of a release that knew no outbox, is another one. The server has given the
/// transaction up then.
fn refused(error: SqlxError) -> Error {
    match explain(&error) {
        Some(explained) => explained.because(error),
        None => error.into(),
    }
}

/// What the failure of an insert means. A number that is none is `insert_or_fail`'s way to fail.
pub(in crate::store) fn explain(error: &SqlxError) -> Option<Error> {
    match link::code(error)?.as_str() {
        "42P01" | "42703" | "22P02" | "42501" => Some(elsewhere()),
        "25006" => Some(Error::new(ErrorKind::Database, READ_ONLY)),
        _ => None,
    }
}

/// The row as a statement for a transaction of another library.
pub(in crate::store) fn statements(row: &NewRow) -> Vec<Statement> {
    let values = vec![
        Value::Bytes(Some(row.event_id.to_bytes().to_vec())),
        Value::Text(Some(row.event.to_owned())),
        Value::Integer(Some(time::delay_ms(row.delay))),
        Value::Integer(Some(version_column(row.version).into())),
        Value::Bytes(row.origin.to_bytes(row.event_id)),
        Value::Bytes(Some(row.payload.to_vec())),
        Value::Text(Some(row.outbox.to_string())),
    ];
    vec![Statement::new(choose!(insert_or_fail, row), values)]
}

pub(in crate::store) async fn run(conn: &mut PgConnection, statement: &Statement) -> Result<u64, SqlxError> {
    let bound = statement.values().iter().fold(query(statement.sql()), |query, value| match value {
        Value::Bytes(bytes) => query.bind(bytes.as_deref()),
        Value::Text(text) => query.bind(text.as_deref()),
        Value::Integer(number) => query.bind(*number),
    });
    Ok(bound.execute(conn).await?.rows_affected())
}
