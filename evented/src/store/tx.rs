//! The transaction in the types: what `emit_in` takes, and what a transactional handler is given.

use std::{
    any::Any,
    fmt,
    ops::{Deref, DerefMut},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use ref_cast::RefCast;
pub use sqlx::Pool;
use sqlx::{Connection, Database};
use sqlx_core::transaction::TransactionManager as _;
use tokio::sync::OwnedMutexGuard;

use crate::{
    context::{Context, Needs},
    error::{BoxError, Error, ErrorKind},
    handler::{Background, HandlerArg, InTransaction, Outbox},
    id::EventId,
    origin::Origin,
    time::Instant,
};

mod statement;

pub use self::statement::{Statement, Value};

use super::{borrowed::Borrowed, kind::Kind};

/// The transaction that a handler runs in: an argument `&mut Tx<Sqlite>` or `&mut Tx<Postgres>`.
///
/// On a stored route, what the handler writes here, the events it emits with `emit_in(tx, ..)` and the end of the
/// delivery are one commit: after a crash either all of it has happened or the delivery runs again. The transaction is
/// committed when the handler returns `Ok` and rolled back otherwise.
///
/// A delivery of the `outbox` route lies in the same database. One of the `background` route may lie elsewhere: that it ran is
/// written beside what the handler wrote, and remembered for 30 days, or until 10 minutes after it is settled; an older
/// delivery goes to the dead letters unrun.
///
/// On SQLite it holds the write lock of the whole file while the handler runs, and every other writer waits. Keep the
/// handler short, and make no network calls in it: slow work belongs on `background`. A write through the pool waits in
/// such a handler for the handler's own lock, and fails when the pool's busy timeout ends: write through the transaction.
///
/// On Postgres it locks the rows that it writes, and others run beside it, on three quarters of the pool's connections. It is READ
/// COMMITTED, whatever isolation role, database and pool have by default: its settlement must see what was committed meanwhile. A
/// handler that needs more locks what it reads, with `select .. for update`. A statement that failed spoils the transaction, unless it was in a savepoint: a
/// handler that returns `Ok` all the same has failed.
///
/// On MySQL it locks the rows that it writes, its isolation is READ COMMITTED, and it runs on three quarters of the pool's connections. A handler whose transaction a deadlock has
/// undone has failed and is tried again; so has one that ended it with a statement which commits by itself, such as
/// `create table`.
///
/// It derefs to the driver's connection, so `&mut **tx` executes queries, as with sqlx's own `Transaction`. `tx` and
/// `&mut *tx` do not: sqlx's `Executor` has one method more where its `macros` are on, and a library cannot ask for that.
#[derive(RefCast)]
#[repr(transparent)]
pub struct Tx<Db: Database>(Db::Connection);

impl<Db: Database> Tx<Db> {
    /// The same transaction as a handler's argument, for a test that calls a handler as a function.
    pub fn of(tx: &mut impl Begun<Db>) -> &mut Self {
        Self::ref_cast_mut(tx.connection())
    }
}

/// A transaction of sqlx's, begun by [`begin`] or by sqlx itself.
pub trait Begun<Db: Database>: sealed::Sealed {
    #[doc(hidden)]
    fn connection(&mut self) -> &mut Db::Connection;
}

impl<Db: Database> Begun<Db> for sqlx::Transaction<'_, Db> {
    fn connection(&mut self) -> &mut Db::Connection {
        self
    }
}

impl<Db: Database> Begun<Db> for Transaction<Db> {
    fn connection(&mut self) -> &mut Db::Connection {
        self
    }
}

mod sealed {
    pub trait Sealed {}
    impl<Db: sqlx::Database> Sealed for sqlx::Transaction<'_, Db> {}
    impl<Db: sqlx::Database> Sealed for super::Transaction<Db> {}
}

/// A transaction that [`begin`] began: sqlx's own, which also tells the relay at its commit that there is something to deliver.
///
/// It derefs to the driver's connection, so `&mut *tx` executes queries. Dropped without a commit, it is rolled back. Events that
/// are emitted in a transaction which sqlx itself began are noticed a little later: the outbox is looked at a few times within
/// the next two seconds, and each five seconds by the relay; or at once, on Postgres with
/// [`notify_in_transaction`](crate::Run::notify_in_transaction).
pub struct Transaction<Db: Database> {
    /// `None` once it has ended.
    open: Option<Open<Db>>,
    /// Where events were emitted to in it, and whether one surely was.
    emitted: Vec<(Arc<dyn super::OutboxStore>, bool)>,
}

struct Open<Db: Database> {
    conn: Borrowed<Db>,
    /// Its turn to write, where those of one process stand in line. Given back after the end.
    _turn: Option<Turn>,
}

impl<Db: Database> Open<Db> {
    async fn roll_back(mut self) -> Result<(), sqlx::Error> {
        let conn = &mut self.conn;
        let depth = Db::TransactionManager::get_transaction_depth(&conn.conn);
        Db::TransactionManager::rollback(&mut conn.conn).await?;
        // A savepoint that was never ended is undone by itself, and the transaction is still open.
        conn.clean = depth == 1;
        Ok(())
    }
}

impl<Db: Outboxed> Transaction<Db> {
    /// Commits: what was written and emitted in it exists from now on.
    ///
    /// # Errors
    /// The driver's. Where the answer was lost, it may have committed. Also where the transaction had failed or ended before, as by a
    /// statement whose error was ignored on Postgres, or a savepoint of it could not be ended: nothing is committed then, where the
    /// driver's own would answer `Ok`. On MySQL that is not seen: after a deadlock, which has undone all of it, a commit answers `Ok` for
    /// what was written since; an error inside the transaction must not be ignored there. The connection is closed after each error, and is not seen again in the pool.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        // From here on it is closed unless it has committed, also where nobody waits for the end.
        let mut open = self.end();
        let conn = &mut open.conn;
        if Db::TransactionManager::get_transaction_depth(&conn.conn) != 1 {
            // The rollback of a savepoint that was dropped may be under way: whatever is asked next waits for it.
            conn.conn.ping().await?;
        }
        match Db::TransactionManager::get_transaction_depth(&conn.conn) {
            1 => {}
            0 => {
                return Err(ended_before(
                    "it had been rolled back before its commit, by a statement in it that was given up",
                ));
            }
            _ => return Err(ended_before("a savepoint in it was never ended")),
        }
        Db::commit(&mut conn.conn).await?;
        conn.clean = true;
        drop(open);
        for (outbox, _) in std::mem::take(&mut self.emitted) {
            outbox.tell(super::Told::Committed);
        }
        Ok(())
    }
}

impl<Db: Database> Transaction<Db> {
    /// Undoes all that was written and emitted in it.
    ///
    /// # Errors
    /// The driver's; it is undone all the same, since the connection is closed then.
    pub async fn rollback(mut self) -> Result<(), sqlx::Error> {
        self.end().roll_back().await
    }

    fn end(&mut self) -> Open<Db> {
        self.open.take().expect("only its end takes it")
    }

    fn conn(&self) -> &Db::Connection {
        &self.open.as_ref().expect("only its end takes it").conn.conn
    }

    fn conn_mut(&mut self) -> &mut Db::Connection {
        &mut self.open.as_mut().expect("only its end takes it").conn.conn
    }
}

fn ended_before(why: &str) -> sqlx::Error {
    sqlx::Error::Protocol(format!("the transaction is not committed: {why}"))
}

impl<Db: Database> Drop for Transaction<Db> {
    fn drop(&mut self) {
        // The driver's own would queue the rollback and put the connection back, whatever comes of it.
        if let (Some(open), Ok(runtime)) = (self.open.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(open.roll_back());
        }
    }
}

impl<Db: Database> Deref for Transaction<Db> {
    type Target = Db::Connection;
    fn deref(&self) -> &Db::Connection {
        self.conn()
    }
}

impl<Db: Database> DerefMut for Transaction<Db> {
    fn deref_mut(&mut self) -> &mut Db::Connection {
        self.conn_mut()
    }
}

impl<Db: Database> fmt::Debug for Transaction<Db> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transaction<{}>", Db::NAME)
    }
}

impl<Db: Database> Deref for Tx<Db> {
    type Target = Db::Connection;
    fn deref(&self) -> &Db::Connection {
        &self.0
    }
}

impl<Db: Database> DerefMut for Tx<Db> {
    fn deref_mut(&mut self) -> &mut Db::Connection {
        &mut self.0
    }
}

impl<Db: Database> fmt::Debug for Tx<Db> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tx<{}>", Db::NAME)
    }
}

/// A route whose handlers run in a transaction. It is asked of the route: asked of `&mut Tx`, rustc would propose to borrow
/// once more.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`&mut Tx` is not available in this handler (route: `{Self}`)",
    label = "no transaction here",
    note = "make it an `async fn` on `background`, `outbox` or `in_process(in_transaction)` to take `&mut Tx`; the last two need an event that is `#[event(transactional)]`",
    note = "elsewhere, take the pool as `State<..>` and begin one: `evented::begin(&pool).await?`"
)]
pub trait HasTx {}
#[diagnostic::do_not_recommend]
impl HasTx for Outbox {}
#[diagnostic::do_not_recommend]
impl HasTx for Background {}
#[diagnostic::do_not_recommend]
impl HasTx for InTransaction {}

impl<'a, R: HasTx, Db: Outboxed> HandlerArg<'a, R> for &'a mut Tx<Db> {
    fn take(context: &mut Context<'a>) -> Result<Self, Error> {
        context.take_tx()
    }
    fn needs(needs: &mut Needs) {
        needs.database::<Db>();
    }
}

/// A database that can hold the outbox: `sqlx::Sqlite` with the feature `sqlite`, `sqlx::Postgres` with `postgres`,
/// `sqlx::MySql` with `mysql`. Its transactions go to [`emit_in`](crate::emit_in()), its pools to
/// [`run().outbox(..)`](crate::Run::outbox) and [`begin`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot hold the outbox",
    label = "no outbox for this database",
    note = "the outbox is kept in SQLite with the feature `sqlite` of `evented`, in Postgres with `postgres`, in MySQL with `mysql`"
)]
pub trait Outboxed: Database {
    /// The database's name in messages.
    #[doc(hidden)]
    const KIND: &'static str;
    #[doc(hidden)]
    fn insert_row<'a>(conn: &'a mut Self::Connection, row: &'a NewRow) -> Inserting<'a>;
    /// The row as statements for a transaction of another library. One that was written for another database fails.
    #[doc(hidden)]
    fn statements(row: &NewRow) -> Vec<Statement>;
    /// What it means that such a statement failed; `None` where the driver's own words are all there is to say.
    #[doc(hidden)]
    fn explain(row: &NewRow, error: &sqlx::Error) -> Option<Error>;
    #[doc(hidden)]
    fn run<'a>(conn: &'a mut Self::Connection, statement: &'a Statement) -> Ran<'a>;
    #[doc(hidden)]
    fn begin(pool: &Pool<Self>) -> Beginning<'_, Self>;
    /// Commits what [`begin`](Self::begin) began, or fails where that is no more or has failed.
    #[doc(hidden)]
    fn commit(conn: &mut Self::Connection) -> Committing<'_>;
    #[doc(hidden)]
    fn open(pool: Pool<Self>) -> super::Pending<'static, super::Store>;
}

#[doc(hidden)]
pub type Inserting<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;
#[doc(hidden)]
pub type Beginning<'a, Db> = Pin<Box<dyn Future<Output = Result<(Taken<Db>, Option<Turn>), sqlx::Error>> + Send + 'a>>;
#[doc(hidden)]
pub type Committing<'a> = Pin<Box<dyn Future<Output = Result<(), sqlx::Error>> + Send + 'a>>;
/// A connection on which a transaction was begun.
#[doc(hidden)]
pub struct Taken<Db: Database>(pub(super) Borrowed<Db>);
/// The turn of one who writes, until it is dropped.
#[doc(hidden)]
pub type Turn = OwnedMutexGuard<Instant>;

/// An event on its way into the outbox.
#[doc(hidden)]
#[derive(Debug)]
pub struct NewRow {
    pub event_id: EventId,
    pub event: &'static str,
    pub origin: Origin,
    pub version: u32,
    pub delay: Duration,
    /// The outbox's [identity](super::Catalogue::identity).
    pub outbox: super::Identity,
    /// An earlier row of the same transaction went there: it need not be asked again of which database it is.
    pub known: bool,
    /// Its commit notifies, where the database can.
    pub notify: bool,
    pub payload: super::Payload,
}

/// Begins a transaction that will write: on SQLite `BEGIN IMMEDIATE`, so that it waits for other writers at its start
/// (up to the pool's busy timeout) and does not fail half-way with `database is locked`. Those of one process wait in line
/// there, who came first goes first, up to 5 seconds; SQLite's own wait, which those of other processes are met at, sleeps and
/// looks.
///
/// A connection of the pool that is inside a transaction which nobody ended is never answered: it is closed, and another taken. sqlx puts
/// such a connection back where its `ROLLBACK` failed, as on a full disk with SQLite, or where nobody waited for the end of its `BEGIN`,
/// as in a `select!` or a timeout; what is written on it next is lost, though its commit answers `Ok`. So a pool on which transactions
/// are also begun by `pool.begin()` checks what comes back. On SQLite:
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # fn checked() -> evented::sqlx::sqlite::SqlitePoolOptions {
/// use evented::sqlx::{Connection as _, sqlite::SqlitePoolOptions};
///
/// let options = SqlitePoolOptions::new().after_release(|conn, _| {
///     Box::pin(async move {
///         conn.ping().await?; // waits for a rollback that is under way
///         Ok(!conn.is_in_transaction()) // `false` closes the connection
///     })
/// });
/// # options
/// # }
/// ```
///
/// On Postgres, where a connection that is lost is closed by itself, the same with the statement
/// `select transaction_timestamp() = statement_timestamp()`, by `raw_sql` since a prepared one has other times, and its answer; on MySQL
/// with the statement `rollback`, and `Ok(true)`.
///
/// The commit of what sqlx itself began answers `Ok` also after a statement that failed on Postgres, and each commit on MySQL does after
/// a deadlock, though all of it is undone: there, an error inside the transaction must not be ignored.
///
/// # Errors
/// The driver's, when no connection could be had or the database stayed locked.
pub async fn begin<Db: Outboxed>(pool: &Pool<Db>) -> Result<Transaction<Db>, sqlx::Error> {
    let (Taken(conn), turn) = Db::begin(pool).await?;
    Ok(Transaction { open: Some(Open { conn, _turn: turn }), emitted: Vec::new() })
}

/// An open database transaction: what [`begin`] answers, `sqlx::Transaction`, [`Tx`], with the feature `sea-orm`
/// `sea_orm::DatabaseTransaction`, or one of another library.
///
/// For a transaction of another library, implement it with a marker of your own as `Db`, which makes the implementation yours
/// to write, and run the statement that evented hands over; `examples/foreign` does so for `tokio-postgres`:
///
/// ```
/// use evented::{InTx, outbox::{Kind, Ran, Statement}, sqlx::Sqlite};
///
/// /// A transaction of some other library, on a database that `.outbox(pool)` was given, too.
/// struct OtherTransaction { /* .. */ }
/// struct Other;
///
/// impl InTx<Other> for OtherTransaction {
///     fn kind(&self) -> Kind {
///         Kind::of::<Sqlite>()
///     }
///
///     fn run<'a>(&'a mut self, statement: &'a Statement) -> Ran<'a> {
///         Box::pin(async move {
///             // self.execute(statement.sql(), statement.values()).await ..
/// #           let _ = (statement.sql(), statement.values());
///             Ok(1) // the rows that were written
///         })
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a database transaction",
    label = "expected `&mut sqlx::Transaction<'_, Db>` or `&mut Tx<Db>`",
    note = "begin one with `let mut tx = evented::begin(&pool).await?`, pass `&mut tx`, then `tx.commit().await?`",
    note = "pass a transaction as `&mut tx` itself, not `&mut *tx`, and a handler's `tx: &mut Tx<Db>` as `tx`",
    note = "`Db` is `Sqlite` with the feature `sqlite` of `evented`, `Postgres` with `postgres`, `MySql` with `mysql`",
    note = "a transaction of `sea-orm` is one with the feature `sea-orm`; for another library's, implement `InTx`"
)]
pub trait InTx<Db = ()>: Send {
    /// The kind of database that it is a transaction of.
    fn kind(&self) -> Kind;

    /// Runs a statement in the transaction; answers how many rows it wrote.
    ///
    /// One without [values](Statement::values) sets a savepoint or ends it: run it unprepared, since MySQL prepares none. An
    /// error that is sqlx's own is understood: where it says that the outbox is elsewhere, `emit_in` answers
    /// [`NoOutbox`](crate::ErrorKind::NoOutbox). Any other is the source of a [`Database`](crate::ErrorKind::Database).
    fn run<'a>(&'a mut self, statement: &'a Statement) -> Ran<'a>;

    /// The same transaction, where it is sqlx's.
    #[doc(hidden)]
    fn own(&mut self) -> Option<&mut dyn OwnTx> {
        None
    }

    /// Whether an event that was emitted in it went to this outbox.
    #[doc(hidden)]
    fn knows(&self, _outbox: &Arc<dyn super::OutboxStore>) -> bool {
        false
    }

    /// Tells the outbox at its commit; false where it cannot.
    #[doc(hidden)]
    fn tell(&mut self, _outbox: &Arc<dyn super::OutboxStore>) -> bool {
        false
    }

    /// An event has gone to this outbox.
    #[doc(hidden)]
    fn wrote(&mut self, _outbox: &Arc<dyn super::OutboxStore>) {}
}

/// A transaction of sqlx's, of whatever database: written to without a detour by [`InTx::run`].
#[doc(hidden)]
pub trait OwnTx: Send {
    fn insert_row<'a>(&'a mut self, row: &'a NewRow) -> Inserting<'a>;
    /// Inserts the row, then calls `then` with the transaction, in one savepoint.
    fn in_savepoint<'a>(&'a mut self, row: &'a NewRow, then: Then) -> Inserting<'a>;
}

/// What follows the row in its savepoint. The argument is a `Tx<Db>`, where the transaction is sqlx's.
#[doc(hidden)]
pub type Then = Box<dyn for<'t> FnOnce(Option<&'t mut (dyn Any + Send)>) -> Inserting<'t> + Send>;

/// What [`InTx::run`] answers: how many rows the statement wrote.
pub type Ran<'a> = Pin<Box<dyn Future<Output = Result<u64, BoxError>> + Send + 'a>>;

impl<Db: Outboxed> InTx<Db> for Transaction<Db> {
    fn kind(&self) -> Kind {
        Kind::of::<Db>()
    }

    fn run<'a>(&'a mut self, statement: &'a Statement) -> Ran<'a> {
        Db::run(self, statement)
    }

    fn own(&mut self) -> Option<&mut dyn OwnTx> {
        Some(Tx::of(self))
    }

    fn knows(&self, outbox: &Arc<dyn super::OutboxStore>) -> bool {
        self.emitted.iter().any(|(told, wrote)| *wrote && Arc::ptr_eq(told, outbox))
    }

    fn tell(&mut self, outbox: &Arc<dyn super::OutboxStore>) -> bool {
        if !self.emitted.iter().any(|(told, _)| Arc::ptr_eq(told, outbox)) {
            self.emitted.push((Arc::clone(outbox), false));
        }
        true
    }

    fn wrote(&mut self, outbox: &Arc<dyn super::OutboxStore>) {
        for (told, wrote) in &mut self.emitted {
            *wrote |= Arc::ptr_eq(told, outbox);
        }
    }
}

impl<Db: Outboxed> InTx<Db> for sqlx::Transaction<'_, Db> {
    fn kind(&self) -> Kind {
        Kind::of::<Db>()
    }

    fn run<'a>(&'a mut self, statement: &'a Statement) -> Ran<'a> {
        Db::run(self, statement)
    }

    fn own(&mut self) -> Option<&mut dyn OwnTx> {
        Some(Tx::of(self))
    }
}

impl<Db: Outboxed> InTx<Db> for Tx<Db> {
    fn kind(&self) -> Kind {
        Kind::of::<Db>()
    }

    fn run<'a>(&'a mut self, statement: &'a Statement) -> Ran<'a> {
        Db::run(&mut self.0, statement)
    }

    fn own(&mut self) -> Option<&mut dyn OwnTx> {
        Some(self)
    }
}

impl<Db: Outboxed> OwnTx for Tx<Db> {
    fn insert_row<'a>(&'a mut self, row: &'a NewRow) -> Inserting<'a> {
        Db::insert_row(&mut self.0, row)
    }

    fn in_savepoint<'a>(&'a mut self, row: &'a NewRow, then: Then) -> Inserting<'a> {
        Box::pin(async move {
            let mut savepoint = self.0.begin().await?;
            let done = match Db::insert_row(&mut savepoint, row).await {
                Ok(()) => then(Some(Self::ref_cast_mut(&mut *savepoint))).await,
                Err(error) => Err(error),
            };
            // Waited for, where a drop would queue it behind the caller's commit.
            if done.is_ok() {
                savepoint.commit().await?;
            } else {
                savepoint.rollback().await?;
            }
            done
        })
    }
}

/// The savepoint of an `emit_in` in a transaction of another library.
const SAVEPOINT: [&str; 3] =
    ["savepoint evented_emit", "release savepoint evented_emit", "rollback to savepoint evented_emit"];

/// What `emit_in` does inside the transaction, all or nothing: writes the row, then runs `then` in the same savepoint.
pub(crate) async fn in_savepoint<Db, T: InTx<Db>>(tx: &mut T, row: &NewRow, then: Then) -> Result<(), Error> {
    if let Some(tx) = tx.own() {
        return tx.in_savepoint(row, then).await;
    }
    let [begin, release, roll_back] = SAVEPOINT.map(|sql| Statement::new(sql, Vec::new()));
    tx.run(&begin).await.map_err(foreign)?;
    let done = match insert_row(tx, row).await {
        Ok(()) => then(None).await,
        Err(error) => Err(error),
    };
    if done.is_err() {
        tx.run(&roll_back).await.map_err(foreign)?;
    }
    tx.run(&release).await.map_err(foreign)?;
    done
}

/// Writes the row alone.
pub(crate) async fn insert_row<Db, T: InTx<Db>>(tx: &mut T, row: &NewRow) -> Result<(), Error> {
    if let Some(tx) = tx.own() {
        return tx.insert_row(row).await;
    }
    let kind = tx.kind();
    for statement in kind.statements(row)? {
        let Err(error) = tx.run(&statement).await else { continue };
        let explained = error.downcast_ref().and_then(|error| kind.explain(row, error));
        return Err(match explained {
            Some(explained) => explained.because(error),
            None => foreign(error),
        });
    }
    Ok(())
}

fn foreign(error: BoxError) -> Error {
    Error::new(ErrorKind::Database, "the transaction could not write the event").because(error)
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::new(ErrorKind::Database, "the database could not do what it was asked").because(BoxError::from(error))
    }
}
