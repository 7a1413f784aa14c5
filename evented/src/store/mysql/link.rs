//! Connections: opened when they are needed, given up when they are in doubt, and what their failures mean.
//!
//! Whatever is asked has a time limit, connecting included, since a server behind a broken network never answers. A
//! connection is taken out of its link while it is used and put back when its answer was whole: a caller that goes away
//! in the middle leaves none behind that is half way through something.

use std::{pin::Pin, sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection as _, Error as SqlxError, Executor as _, MySql, MySqlConnection,
    mysql::{MySqlArguments, MySqlConnectOptions, MySqlDatabaseError, MySqlQueryResult, MySqlRow},
};
use tokio::sync::Mutex;

use crate::{
    error::{StoreError, Written},
    time,
};

use super::identity::{self, Known};

/// How long one statement or transaction may take, and how long it may wait for the connection before.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a transaction is tried that the server gave up for another's sake.
const CONFLICTS_MAX: usize = 5;

/// A session of ours, whatever the server and the URL have set. READ COMMITTED, since the gap locks of the default would have two
/// relays wait for each other in a ring; strict, since a value that does not fit must not be cut; and a wait for a row ends before we
/// give the statement up. The last line is for MariaDB alone.
const SETTINGS: &str = "set session transaction isolation level read committed, read write;
    set session innodb_lock_wait_timeout = 5, lock_wait_timeout = 5,
        sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', autocommit = 1, completion_type = 0, sql_safe_updates = 0,
        sql_select_limit = 18446744073709551615, sql_auto_is_null = 0, sql_big_selects = 1,
        wait_timeout = 28800
        /*M! , max_statement_time = 0 */";

/// A statement before its values.
pub(super) type Sql = sqlx::query::Query<'static, MySql, MySqlArguments>;

/// A piece of work under way.
pub(super) type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T, SqlxError>> + Send + 'a>>;

/// A piece of work: what it reads, and the statements that it runs. It may run twice.
pub(super) type Work<I, T> = for<'a> fn(&'a mut MySqlConnection, &'a I) -> Running<'a, T>;

/// A statement that is prepared once for a connection and kept.
pub(super) fn sql(text: &'static str) -> Sql {
    sqlx::query(text)
}

/// A statement whose text has numbers and ids in it and no value of anybody's: it is sent as it is, in one round trip.
pub(super) async fn read(conn: &mut MySqlConnection, text: String) -> Result<Vec<MySqlRow>, SqlxError> {
    sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(conn).await
}

/// The same for one that writes; answers how many rows it found.
pub(super) async fn write(conn: &mut MySqlConnection, text: String) -> Result<u64, SqlxError> {
    sqlx::raw_sql(AssertSqlSafe(text)).execute(conn).await.map(|done: MySqlQueryResult| done.rows_affected())
}

/// A connection of a store, for one kind of work.
pub(super) struct Link {
    options: MySqlConnectOptions,
    known: Arc<Known>,
    conn: Mutex<Option<MySqlConnection>>,
}

/// Whether a piece of work is one statement, which is its own commit, or several in a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Frame {
    Statement,
    Transaction,
    /// The work's first statement follows [`BEGIN`] in its text, which saves a round trip.
    Begun,
}

/// Begins a transaction.
pub(super) const BEGIN: &str = "start transaction";

/// How far it came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Inside a transaction that has not been committed.
    Before,
    /// At the commit, or in a statement that is one.
    Commit,
}

impl Link {
    pub(super) fn new(options: &MySqlConnectOptions, known: &Arc<Known>) -> Self {
        Self { options: options.clone(), known: Arc::clone(known), conn: Mutex::default() }
    }

    /// Opens a connection, perhaps to another database than before: at the same place may be another server by now.
    async fn open(&self) -> Result<MySqlConnection, StoreError> {
        let mut conn = open(&self.options).await?;
        let met = time::within(LIMIT, identity::read(&mut conn)).await;
        if let Some(Ok(Some(met))) = met
            && self.known.note(met)
        {
            tracing::warn!(database = %self.known.get().identity,
                "another database is at the outbox's place now; what was known of the one before is read anew");
        }
        Ok(conn)
    }

    /// Runs one statement, or several that only read. It may run twice: where the connection was lost while nobody used it,
    /// or where the server asks for it.
    pub(super) async fn run<I: Sync, T>(&self, input: &I, work: Work<I, T>) -> Result<T, StoreError> {
        self.run_in(Frame::Statement, input, work).await
    }

    /// Runs statements in one transaction, perhaps twice as with [`run`](Self::run).
    pub(super) async fn transact<I: Sync, T>(&self, input: &I, work: Work<I, T>) -> Result<T, StoreError> {
        self.run_in(Frame::Transaction, input, work).await
    }

    /// The same for work that begins the transaction itself, in the text of its first statement.
    pub(super) async fn transact_begun<I: Sync, T>(&self, input: &I, work: Work<I, T>) -> Result<T, StoreError> {
        self.run_in(Frame::Begun, input, work).await
    }

    async fn run_in<I: Sync, T>(&self, frame: Frame, input: &I, work: Work<I, T>) -> Result<T, StoreError> {
        let Some(mut slot) = time::within(LIMIT, self.conn.lock()).await else {
            return Err(StoreError::transient("the database has not answered for long", Written::Nothing));
        };
        let mut in_doubt = false;
        let mut tries = 0;
        loop {
            tries += 1;
            let idle = slot.take();
            let was_idle = idle.is_some();
            let opened = match idle {
                Some(conn) => Ok(conn),
                None => self.open().await,
            };
            let mut conn = opened.map_err(|error| if in_doubt { unknown(error) } else { error })?;
            let mut stage = if frame == Frame::Statement { Stage::Commit } else { Stage::Before };
            let done = match time::within(LIMIT, framed(frame, &mut conn, &mut stage, input, work)).await {
                Some(Ok(done)) => {
                    *slot = Some(conn);
                    return Ok(done);
                }
                Some(Err(error)) => error,
                None => {
                    let written = if stage == Stage::Before && !in_doubt { Written::Nothing } else { Written::Unknown };
                    return Err(StoreError::transient(format!("no answer within {LIMIT:?}"), written));
                }
            };
            let lost = is_lost(&done);
            in_doubt |= lost && stage == Stage::Commit;
            if !lost && !is_spoilt(&done) {
                let well = frame == Frame::Statement
                    || time::within(LIMIT, conn.execute("rollback")).await.is_some_and(|done| done.is_ok());
                *slot = well.then_some(conn);
            }
            let again = (was_idle && (lost || is_spoilt(&done))) || is_conflict(&done);
            if again && tries < CONFLICTS_MAX {
                continue;
            }
            return Err(failed("the database refused the statement", in_doubt, done));
        }
    }
}

/// Runs the work, and what is around it.
async fn framed<I: Sync, T>(
    frame: Frame,
    conn: &mut MySqlConnection,
    stage: &mut Stage,
    input: &I,
    work: Work<I, T>,
) -> Result<T, SqlxError> {
    if frame == Frame::Statement {
        return work(conn, input).await;
    }
    if frame == Frame::Transaction {
        conn.execute(BEGIN).await?;
    }
    let done = work(conn, input).await?;
    *stage = Stage::Commit;
    conn.execute("commit").await?;
    Ok(done)
}

/// Opens a connection.
pub(super) async fn open(options: &MySqlConnectOptions) -> Result<MySqlConnection, StoreError> {
    let opening = async {
        let mut conn = MySqlConnection::connect_with(options).await?;
        sqlx::raw_sql(SETTINGS).execute(&mut conn).await?;
        Ok(conn)
    };
    let place = || format!("the MySQL server at {}:{}", options.get_host(), options.get_port());
    let Some(opened) = time::within(CONNECT, opening).await else {
        let text = format!("{} could not be reached within {CONNECT:?}", place());
        return Err(StoreError::transient(text, Written::Nothing));
    };
    opened.map_err(|error| failed(&format!("{} could not be reached", place()), false, error))
}

fn unknown(error: StoreError) -> StoreError {
    let new = if error.is_transient() { StoreError::transient } else { StoreError::lasting };
    new(error.to_string(), Written::Unknown).because(error)
}

/// The error's number: <https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html>.
pub(super) fn code(error: &SqlxError) -> Option<u16> {
    Some(error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>()?.number())
}

/// No table of this name.
pub(super) const NO_SUCH_TABLE: u16 = 1146;
/// A column that is not null was given none.
pub(super) const NULL: u16 = 1048;
/// A row of this key is there already.
pub(super) const DUPLICATE: u16 = 1062;

/// The connection has ended. What was under way may have been done.
fn is_lost(error: &SqlxError) -> bool {
    match code(error) {
        // The server ends, or has ended this connection.
        Some(code) => matches!(code, 1053 | 1077 | 1079 | 1152..=1161 | 1184 | 1927 | 3169),
        None => matches!(error, SqlxError::Io(_) | SqlxError::Protocol(_) | SqlxError::WorkerCrashed),
    }
}

/// The connection is of no more use, though it works: the server cannot write since another has taken over, or it has
/// forgotten prepared statements, or the database was dropped, and another of its name made, since the connection was opened.
fn is_spoilt(error: &SqlxError) -> bool {
    matches!(code(error), Some(1046 | 1290 | 1836 | 1243 | 1615))
}

/// The server gave the transaction up for another's sake, at a deadlock: it may be tried again at once. So it is with one for a
/// table's next number, which has an error of its own.
fn is_conflict(error: &SqlxError) -> bool {
    matches!(code(error), Some(1020 | 1213 | 1467))
}

/// What passes by itself: a row that was not had in time (1205), too many connections or locks, no memory or disk just now, a
/// statement that was ended, a server that waits for its cluster.
const PASSING: &[u16] =
    &[1021, 1037, 1040, 1041, 1047, 1114, 1135, 1180, 1203, 1205, 1206, 1226, 1317, 1637, 1969, 3024];

/// The one place that decides whether an error of MySQL may pass.
fn is_transient(error: &SqlxError) -> bool {
    match code(error) {
        Some(code) => is_lost(error) || is_spoilt(error) || is_conflict(error) || PASSING.contains(&code),
        None => !matches!(
            error,
            SqlxError::Configuration(_)
                | SqlxError::InvalidArgument(_)
                | SqlxError::Tls(_)
                | SqlxError::Encode(_)
                | SqlxError::Decode(_)
                | SqlxError::ColumnDecode { .. }
                | SqlxError::ColumnNotFound(_)
                | SqlxError::ColumnIndexOutOfBounds { .. }
        ),
    }
}

pub(super) fn failed(text: &str, in_doubt: bool, error: SqlxError) -> StoreError {
    let written = if in_doubt { Written::Unknown } else { Written::Nothing };
    let new = if is_transient(&error) { StoreError::transient } else { StoreError::lasting };
    let text = if is_lost(&error) { "the connection to the database was lost" } else { text };
    new(text, written).because(error)
}
