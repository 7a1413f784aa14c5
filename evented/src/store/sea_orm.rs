//! The transactions of `sea-orm`: events are emitted in them as in sqlx's own.

use std::sync::Arc;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, RuntimeErr, Statement as SeaOrmStatement};

use crate::error::{BoxError, Error, ErrorKind};

use super::{
    kind::Kind,
    tx::{InTx, Ran, Statement, Value},
};

/// Marks the transactions of `sea-orm` 2, with the feature `sea-orm`. [`emit_in`](crate::emit_in()) finds it by itself.
///
/// The database may be each whose feature of evented is on, and is found at run time. `run()` is given the pool under the
/// connection: `db.get_postgres_connection_pool().clone()`, or that of `sqlite` or `mysql`.
///
/// ```no_run
/// use evented::prelude::*;
/// use sea_orm::{DatabaseConnection, TransactionTrait};
///
/// #[event(transactional)]
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct PaymentCaptured { order_id: i64 }
///
/// async fn capture(db: &DatabaseConnection, order_id: i64) -> evented::Result<()> {
///     let mut tx = db.begin().await?;
///     // .. entities, saved with `&tx` ..
///     emit_in(&mut tx, PaymentCaptured { order_id }).await?;
///     tx.commit().await?;
///     Ok(())
/// }
/// ```
///
/// The closure of `db.transaction(..)` is given a `&DatabaseTransaction`, which will do as well: write it `|mut tx|`, and
/// `emit_in(&mut tx, ..)`.
///
/// It is not the `&mut Tx<Db>` of a handler, since `sea-orm` keeps its connection to itself: emitting an event is refused that
/// has an `in_process(in_transaction)` handler which takes one.
///
/// On SQLite begin it with `SqliteTransactionMode::Immediate`, for the reason that [`begin`](crate::begin) does, and open the
/// file with `.journal_mode(SqliteJournalMode::Wal)`, which `sea-orm` takes in `map_sqlx_sqlite_opts`. It makes one connection
/// there unless it is told `max_connections`: a handler that takes a `&mut Tx` has it while it runs.
#[derive(Debug)]
pub struct SeaOrm;

impl InTx<SeaOrm> for DatabaseTransaction {
    fn kind(&self) -> Kind {
        kind(self)
    }

    fn run<'a>(&'a mut self, statement: &'a Statement) -> Ran<'a> {
        Box::pin(run(self, statement))
    }
}

impl InTx<SeaOrm> for &DatabaseTransaction {
    fn kind(&self) -> Kind {
        kind(self)
    }

    fn run<'a>(&'a mut self, statement: &'a Statement) -> Ran<'a> {
        Box::pin(run(self, statement))
    }
}

/// A kind, or the feature that evented was built without.
macro_rules! kind {
    ($feature:literal, $db:ident, $name:literal) => {{
        #[cfg(feature = $feature)]
        {
            Kind::of::<sqlx::$db>()
        }
        #[cfg(not(feature = $feature))]
        {
            Kind::without(
                $name,
                concat!("enable evented's feature `", $feature, "` and give it the pool with `.outbox(pool)`"),
            )
        }
    }};
}

fn kind(tx: &DatabaseTransaction) -> Kind {
    match tx.get_database_backend() {
        DbBackend::Sqlite => kind!("sqlite", Sqlite, "SQLite"),
        DbBackend::Postgres => kind!("postgres", Postgres, "Postgres"),
        DbBackend::MySql => kind!("mysql", MySql, "MySQL"),
        _ => Kind::without("this database", "it is kept in SQLite, Postgres or MySQL"),
    }
}

async fn run(tx: &DatabaseTransaction, statement: &Statement) -> Result<u64, BoxError> {
    let done = if statement.values().is_empty() {
        tx.execute_unprepared(statement.sql()).await
    } else {
        let values = statement.values().iter().map(|value| match value {
            Value::Bytes(bytes) => bytes.clone().into(),
            Value::Text(text) => text.clone().into(),
            Value::Integer(number) => sea_orm::Value::from(*number),
        });
        let backend = tx.get_database_backend();
        tx.execute_raw(SeaOrmStatement::from_sql_and_values(backend, statement.sql(), values)).await
    };
    done.map(|done| done.rows_affected()).map_err(driver)
}

/// The driver's error, of which it is known what it means: `sea-orm` does not have it among the sources of its own.
fn driver(error: DbErr) -> BoxError {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(error)) => match Arc::try_unwrap(error) {
            Ok(error) => error.into(),
            Err(shared) => DbErr::Exec(RuntimeErr::SqlxError(shared)).into(),
        },
        error => error.into(),
    }
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::new(ErrorKind::Database, "the database could not do what it was asked").because(error)
    }
}
