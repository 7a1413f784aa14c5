//! A connection of the application's pool, for a transaction: in none when it is taken, and closed unless its end was clean.
//!
//! A pool may hold connections that are inside a transaction: sqlx takes one back whose `ROLLBACK` failed, as on a full disk, or whose
//! `BEGIN` nobody waited for. What is written there next is lost with it, though its commit answers `Ok`.

use std::time::Duration;

use sqlx::{Connection as _, Database, Error, Pool, SqlSafeStr as _, pool::PoolConnection};
#[cfg(any(feature = "postgres", feature = "mysql"))]
use tokio::sync::Semaphore;

use sqlx_core::transaction::TransactionManager as _;

use crate::time;

/// A connection of the application's pool that goes back only after a clean end. A handler may have ended its transaction
/// behind our back: the connection no longer knows then in what transaction it is. It is closed, also where the handler's
/// future is dropped.
pub(super) struct Borrowed<Db: Database> {
    pub conn: PoolConnection<Db>,
    pub clean: bool,
}

impl<Db: Database> Drop for Borrowed<Db> {
    fn drop(&mut self) {
        if !self.clean {
            self.conn.close_on_drop();
        }
    }
}

/// How many transactional handlers run at once: on three quarters of the pool. Handlers of which each asks for one more connection
/// must not wait for each other.
#[cfg(any(feature = "postgres", feature = "mysql"))]
pub(super) fn turns<Db: Database>(pool: &Pool<Db>) -> Semaphore {
    let connections = pool.options().get_max_connections();
    let turns = usize::try_from(connections - connections.div_ceil(4)).unwrap_or(usize::MAX);
    Semaphore::new(turns.clamp(1, Semaphore::MAX_PERMITS))
}

/// Says so where a handler's transaction leaves nothing of the pool.
pub(super) fn say_if_small<Db: Database>(pool: &Pool<Db>) {
    if pool.options().get_max_connections() < 2 {
        tracing::warn!(
            database = Db::NAME,
            "the outbox's pool has one connection: while a handler with `&mut Tx` runs, the application has none, and one that asks \
             the pool for another waits until that fails; give it two or more"
        );
    }
}

/// Takes a connection that is in no transaction, as far as the driver knows. Those that are in one are closed.
pub(super) async fn take<Db: Database>(pool: &Pool<Db>) -> Result<Borrowed<Db>, Error> {
    // Each that is closed makes room for a new one: only where new ones begin inside a transaction this comes to an end.
    for _ in 0..=pool.options().get_max_connections() {
        let taken = Borrowed { conn: pool.acquire().await?, clean: false };
        if !taken.conn.is_in_transaction() {
            return Ok(taken);
        }
        closed_one::<Db>();
    }
    Err(Error::Protocol("every connection of the pool begins inside a transaction".to_owned()))
}

/// How long a connection of the pool is waited for at the start.
const LOOK: Duration = Duration::from_secs(5);

/// A connection of the pool, to see at the start what its options and hooks make of it. `None` where all are in use for long: nothing
/// is known of them then. A pool that cannot connect is an error, also one that would do so later.
pub(super) async fn look_at<Db: Database>(pool: &Pool<Db>) -> Result<Option<Borrowed<Db>>, Error> {
    match time::within(LOOK, take(pool)).await {
        Some(Ok(taken)) => Ok(Some(taken)),
        Some(Err(Error::PoolTimedOut)) | None => {
            tracing::warn!(
                database = Db::NAME,
                "no connection of the outbox's pool came free at the start: it is not known whether events can be emitted on them"
            );
            Ok(None)
        }
        Some(Err(error)) => Err(error),
    }
}

/// How a database's transactions begin.
pub(super) struct Beginning {
    pub sql: &'static str,
    /// The error says that the connection was inside a transaction already: it is closed, and another taken.
    pub is_inside: fn(&Error) -> bool,
    /// The error leaves the connection as it was.
    pub is_harmless: fn(&Error) -> bool,
}

impl Beginning {
    /// Begins a transaction on a connection that was in none; whether it is another one is to be taken otherwise.
    pub(super) async fn on<Db: Database>(&self, taken: &mut Borrowed<Db>) -> Result<bool, Error> {
        let Err(error) = Db::TransactionManager::begin(&mut taken.conn, Some(self.sql.into_sql_str())).await else {
            return Ok(true);
        };
        taken.clean = (self.is_harmless)(&error);
        if (self.is_inside)(&error) {
            closed_one::<Db>();
            return Ok(false);
        }
        Err(error)
    }

    /// Takes a connection and begins a transaction.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(super) async fn at<Db: Database>(&self, pool: &Pool<Db>) -> Result<Borrowed<Db>, Error> {
        loop {
            let mut taken = take(pool).await?;
            if self.on(&mut taken).await? {
                return Ok(taken);
            }
        }
    }
}

fn closed_one<Db: Database>() {
    tracing::warn!(
        database = Db::NAME,
        "a connection of the application's pool came back inside a transaction that nobody ended; it is closed, since what is \
         written there is lost: see the docs of `evented::begin` for a pool that holds none"
    );
}
