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
use sqlx::{Connection, Database, Transaction};

use crate::{
    context::{Context, Needs},
    error::{BoxError, Error, ErrorKind},
    handler::{HandlerArg, InTransaction, Outbox},
    id::EventId,
};

/// The transaction that a handler runs in: an argument `&mut Tx<Sqlite>`.
///
/// On the `outbox` route, what the handler writes here, the events it emits with `emit_in(tx, ..)` and the end of the
/// delivery are one commit: after a crash either all of it has happened or the delivery runs again. The transaction is
/// committed when the handler returns `Ok` and rolled back otherwise.
///
/// On SQLite it holds the write lock of the whole file while the handler runs, and every other writer waits. Keep the
/// handler short, and make no network calls in it: slow work belongs on `background`. A write through the pool waits in
/// such a handler for the handler's own lock, and fails when the pool's busy timeout ends: write through the transaction.
///
/// It derefs to the driver's connection, so `&mut **tx` executes queries, as with sqlx's own `Transaction`. `tx` and
/// `&mut *tx` do not: sqlx's `Executor` has one method more where its `macros` are on, and a library cannot ask for that.
#[derive(RefCast)]
#[repr(transparent)]
pub struct Tx<Db: Database>(Db::Connection);

impl<Db: Database> Tx<Db> {
    /// The same transaction as a handler's argument, for a test that calls a handler as a function.
    pub fn of<'t>(tx: &'t mut Transaction<'_, Db>) -> &'t mut Self {
        Self::ref_cast_mut(&mut **tx)
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
    note = "make it an `async fn` on `outbox`, or on `in_process(in_transaction)`, to take `&mut Tx`; both need an event that is `#[event(transactional)]`",
    note = "elsewhere, take the pool as `State<..>` and begin one: `evented::begin(&pool).await?`"
)]
pub trait HasTx {}
#[diagnostic::do_not_recommend]
impl HasTx for Outbox {}
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

/// A database that can hold the outbox: [`sqlx::Sqlite`]. Its transactions go to [`emit_in`](crate::emit_in()), its
/// pools to [`run().outbox(..)`](crate::Run::outbox) and [`begin`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot hold the outbox",
    label = "no outbox for this database",
    note = "the outbox is kept in SQLite"
)]
pub trait Outboxed: Database {
    /// The database's name in messages.
    #[doc(hidden)]
    const KIND: &'static str;
    #[doc(hidden)]
    fn insert_row<'a>(conn: &'a mut Self::Connection, row: &'a NewRow) -> Inserting<'a>;
    #[doc(hidden)]
    fn begin(pool: &Pool<Self>) -> Beginning<'_, Self>;
    #[doc(hidden)]
    fn open(pool: Pool<Self>) -> super::Pending<'static, Arc<dyn super::OutboxStore>>;
}

#[doc(hidden)]
pub type Inserting<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;
#[doc(hidden)]
pub type Beginning<'a, Db> = Pin<Box<dyn Future<Output = Result<Transaction<'static, Db>, sqlx::Error>> + Send + 'a>>;

/// An event on its way into the outbox.
#[doc(hidden)]
#[derive(Debug)]
pub struct NewRow {
    pub event_id: EventId,
    pub event: &'static str,
    pub correlation: EventId,
    pub version: u32,
    pub delay: Duration,
    /// The outbox's name: a row in another database would never be delivered.
    pub outbox: String,
    pub payload: Vec<u8>,
}

/// Begins a transaction that will write: on SQLite `BEGIN IMMEDIATE`, so that it waits for other writers at its start
/// (up to the pool's busy timeout) and does not fail half-way with `database is locked`.
///
/// # Errors
/// The driver's, when no connection could be had or the database stayed locked.
pub async fn begin<Db: Outboxed>(pool: &Pool<Db>) -> Result<Transaction<'static, Db>, sqlx::Error> {
    Db::begin(pool).await
}

/// An open database transaction: `sqlx::Transaction` or [`Tx`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a database transaction",
    label = "expected `&mut sqlx::Transaction<'_, Sqlite>` or `&mut Tx<Sqlite>`",
    note = "begin one with `let mut tx = evented::begin(&pool).await?`, pass `&mut tx`, then `tx.commit().await?`",
    note = "pass a transaction as `&mut tx` itself, not `&mut *tx`, and a handler's `tx: &mut Tx<Sqlite>` as `tx`"
)]
pub trait InTx: sealed::Sealed + Send {
    #[doc(hidden)]
    type Db: Outboxed;
    #[doc(hidden)]
    fn tx(&mut self) -> &mut Tx<Self::Db>;
}

mod sealed {
    #[diagnostic::on_unimplemented(
        message = "`{Self}` is not a database transaction",
        label = "expected `&mut sqlx::Transaction<'_, Sqlite>` or `&mut Tx<Sqlite>`"
    )]
    pub trait Sealed {}
    impl<Db: sqlx::Database> Sealed for sqlx::Transaction<'_, Db> {}
    impl<Db: sqlx::Database> Sealed for super::Tx<Db> {}
}

impl<Db: Outboxed> InTx for Transaction<'_, Db> {
    type Db = Db;
    fn tx(&mut self) -> &mut Tx<Db> {
        Tx::of(self)
    }
}

impl<Db: Outboxed> InTx for Tx<Db> {
    type Db = Db;
    fn tx(&mut self) -> &mut Self {
        self
    }
}

/// What `emit_in` does inside the transaction, all or nothing: writes the row, then runs `then` in the same savepoint.
pub(crate) async fn in_savepoint<Db, F>(tx: &mut Tx<Db>, row: &NewRow, then: F) -> Result<(), Error>
where
    Db: Outboxed,
    F: for<'t> FnOnce(&'t mut (dyn Any + Send)) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 't>> + Send,
{
    let mut savepoint = tx.0.begin().await?;
    Db::insert_row(&mut savepoint, row).await?;
    then(Tx::<Db>::of(&mut savepoint)).await?;
    savepoint.commit().await?;
    Ok(())
}

/// Writes the row alone.
pub(crate) async fn insert_row<Db: Outboxed>(tx: &mut Tx<Db>, row: &NewRow) -> Result<(), Error> {
    Db::insert_row(&mut tx.0, row).await
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::new(ErrorKind::Database, "the database could not do what it was asked").because(BoxError::from(error))
    }
}
