//! Connections: opened when they are needed, given up when they are in doubt, and what their failures mean.
//!
//! Whatever is asked has a time limit, connecting included, since a server behind a broken network never answers. A
//! connection is taken out of its link while it is used and put back when its answer was whole: a caller that goes away
//! in the middle leaves none behind that is half way through something.

use std::{fmt::Write as _, pin::Pin, sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection as _, Error as SqlxError, Executor as _, PgConnection, Postgres, SqlSafeStr as _, SqlStr,
    postgres::PgArguments,
};
use tokio::sync::Mutex;

use crate::{
    error::{StoreError, Written},
    time,
};

use super::place::Place;

/// How long one statement or transaction may take, and how long it may wait for the connection before.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// How long connecting may take.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// How often a transaction is tried that the server gave up for another's sake.
const CONFLICTS_MAX: usize = 5;

/// A statement before its values.
pub(super) type Sql = sqlx::query::Query<'static, Postgres, PgArguments>;

/// A piece of work under way.
pub(super) type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T, SqlxError>> + Send + 'a>>;

/// A piece of work: what it reads, and the statements that it runs. It may run twice.
pub(super) type Work<I, T> = for<'a> fn(&'a mut Session, &'a I) -> Running<'a, T>;

/// What the statements of a connection need of the planner.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Plans {
    /// Each row by its index, by plans made once. A queue is empty or long within the same minute, so what the planner
    /// learnt of the table's size is wrong half of the time: a plan made while it was empty reads all of it, for ever.
    ByIndex,
    /// As the planner likes: for what counts whole tables.
    Free,
}

impl Plans {
    /// Set for the session, or for the transaction where others use the session in between: all that our statements depend on and
    /// that the server, the database, the role or the URL may have set otherwise.
    fn settings(self, place: &Place, server: Option<u32>) -> String {
        let prepared = place.prepared;
        let set = if prepared { "set" } else { "set local" };
        let mut text =
            if prepared { String::new() } else { "begin isolation level read committed read write;".to_owned() };
        let values = COMMON.iter().chain(match (self, prepared) {
            (Self::ByIndex, true) => SESSION.iter().chain(BY_INDEX),
            (Self::ByIndex, false) => BY_INDEX.iter().chain(&[]),
            (Self::Free, true) => SESSION.iter().chain(&[]),
            (Self::Free, false) => [].iter().chain(&[]),
        });
        let since_17 = server.is_some_and(|version| version >= 170_000).then_some(&("transaction_timeout", "0"));
        let row_security = ("row_security", place.row_security());
        for (name, value) in values.chain(since_17).chain([&row_security]) {
            let _never_fails = write!(text, "{set} {name} = {value};");
        }
        text
    }
}

/// The server gives up a statement sooner than we do, so that nothing runs on there for nobody. Bytes have one form.
const COMMON: &[(&str, &str)] = &[
    ("statement_timeout", "9000"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "15000"),
    ("standard_conforming_strings", "on"),
    ("bytea_output", "'hex'"),
];

/// What a transaction says itself where the session is others', too.
const SESSION: &[(&str, &str)] = &[
    ("default_transaction_isolation", "'read committed'"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"),
    ("idle_session_timeout", "0"),
    ("plan_cache_mode", "auto"),
];

/// Without JIT, which takes a plan for costly whose alternatives are switched off.
const BY_INDEX: &[(&str, &str)] = &[
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_indexscan", "on"),
    ("enable_nestloop", "on"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

/// A connection in use.
pub(super) struct Session {
    pub conn: PgConnection,
    /// Its statements are prepared once and kept. Where a pooler stands between, each transaction may be another
    /// session, which knows none of them.
    prepared: bool,
}

impl Session {
    pub(super) fn sql(&self, text: &'static str) -> Sql {
        sqlx::query(text).persistent(self.prepared)
    }
}

/// A connection of a store, for one kind of work.
pub(super) struct Link {
    place: Arc<Place>,
    plans: Plans,
    session: Mutex<Option<Session>>,
}

/// Whether a piece of work is one statement, which is its own commit, or several in a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Frame {
    Statement,
    Transaction,
}

/// How far it came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Inside a transaction that has not been committed.
    Before,
    /// At the commit, or in a statement that is one.
    Commit,
}

impl Link {
    pub(super) fn new(place: &Arc<Place>, plans: Plans) -> Self {
        Self { place: Arc::clone(place), plans, session: Mutex::default() }
    }

    /// Runs one statement. It may run twice: where the connection was lost while nobody used it, or where the server
    /// asks for it.
    pub(super) async fn run<I: Sync, T>(&self, input: &I, work: Work<I, T>) -> Result<T, StoreError> {
        self.run_in(Frame::Statement, input, work).await
    }

    /// Whether a single statement is in no transaction but its own.
    pub(super) fn is_direct(&self) -> bool {
        self.place.prepared
    }

    /// Runs statements in one transaction, perhaps twice as with [`run`](Self::run).
    pub(super) async fn transact<I: Sync, T>(&self, input: &I, work: Work<I, T>) -> Result<T, StoreError> {
        self.run_in(Frame::Transaction, input, work).await
    }

    async fn run_in<I: Sync, T>(&self, frame: Frame, input: &I, work: Work<I, T>) -> Result<T, StoreError> {
        let Some(mut slot) = time::within(LIMIT, self.session.lock()).await else {
            return Err(StoreError::transient("the database has not answered for long", Written::Nothing));
        };
        let frame = if self.place.prepared { frame } else { Frame::Transaction };
        let mut in_doubt = false;
        let mut tries = 0;
        loop {
            tries += 1;
            let idle = slot.take();
            let was_idle = idle.is_some();
            let opened = match idle {
                Some(session) => Ok(session),
                None => self.open().await,
            };
            let mut session = opened.map_err(|error| if in_doubt { unknown(error) } else { error })?;
            let mut stage = if frame == Frame::Statement { Stage::Commit } else { Stage::Before };
            let done = match time::within(LIMIT, self.frame(frame, &mut session, &mut stage, input, work)).await {
                Some(Ok(done)) => {
                    *slot = Some(session);
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
                    || time::within(LIMIT, session.conn.execute("rollback")).await.is_some_and(|done| done.is_ok());
                *slot = well.then_some(session);
            }
            let again = (lost && was_idle) || is_conflict(&done) || (is_spoilt(&done) && was_idle);
            if again && tries < CONFLICTS_MAX {
                continue;
            }
            return Err(failed("the database refused the statement", in_doubt, done));
        }
    }

    /// Runs the work, and what is around it.
    async fn frame<I: Sync, T>(
        &self,
        frame: Frame,
        session: &mut Session,
        stage: &mut Stage,
        input: &I,
        work: Work<I, T>,
    ) -> Result<T, SqlxError> {
        if frame == Frame::Statement {
            return work(session, input).await;
        }
        let begin = if self.place.prepared {
            SqlStr::from_static("begin isolation level read committed read write")
        } else {
            AssertSqlSafe(self.plans.settings(&self.place, session.conn.server_version_num())).into_sql_str()
        };
        sqlx::raw_sql(begin).execute(&mut session.conn).await?;
        let done = work(session, input).await?;
        *stage = Stage::Commit;
        session.conn.execute("commit").await?;
        Ok(done)
    }

    async fn open(&self) -> Result<Session, StoreError> {
        open(&self.place, self.plans).await
    }
}

/// Opens a connection.
pub(super) async fn open(place: &Place, plans: Plans) -> Result<Session, StoreError> {
    let prepared = place.prepared;
    let opening = async {
        let mut conn = PgConnection::connect_with(&place.options).await?;
        if prepared {
            let settings = plans.settings(place, conn.server_version_num());
            sqlx::raw_sql(AssertSqlSafe(settings)).execute(&mut conn).await?;
        }
        Ok(Session { conn, prepared })
    };
    let Some(opened) = time::within(CONNECT, opening).await else {
        let text = format!("{} could not be reached within {CONNECT:?}", place.name);
        return Err(StoreError::transient(text, Written::Nothing));
    };
    opened.map_err(|error| failed(&format!("{} could not be reached", place.name), false, error))
}

fn unknown(error: StoreError) -> StoreError {
    let new = if error.is_transient() { StoreError::transient } else { StoreError::lasting };
    new(error.to_string(), Written::Unknown).because(error)
}

/// The error's code: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
pub(super) fn code(error: &SqlxError) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// The connection has ended. What was under way may have been done.
pub(super) fn is_lost(error: &SqlxError) -> bool {
    match code(error) {
        // The server ends, was ended or begins; or says so of the connection.
        Some(code) => code.starts_with("57P") || code.starts_with("08"),
        None => matches!(error, SqlxError::Io(_) | SqlxError::Protocol(_) | SqlxError::WorkerCrashed),
    }
}

/// The connection is of no more use, though it works: the server cannot write since another has taken over, its prepared
/// statements are gone, or they are of tables that have changed since.
fn is_spoilt(error: &SqlxError) -> bool {
    matches!(code(error).as_deref(), Some("25006" | "26000" | "0A000" | "25P02"))
}

/// The server gave the transaction up for another's sake: it may be tried again at once.
pub(super) fn is_conflict(error: &SqlxError) -> bool {
    matches!(code(error).as_deref(), Some("40001" | "40P01"))
}

/// The one place that decides whether an error of Postgres may pass.
fn is_transient(error: &SqlxError) -> bool {
    match code(error) {
        // Values that do not fit, a user or a database that is not there, what is not allowed, and our own mistakes.
        Some(code) => {
            is_spoilt(error)
                || !["0A", "22", "23", "28", "3D", "3F", "42", "XX"].iter().any(|class| code.starts_with(class))
        }
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
