//! The kind of database that a transaction is of, as a value: some libraries know it at run time alone.

use std::{any::TypeId, fmt};

use crate::error::{Error, ErrorKind};

use super::tx::{NewRow, Outboxed, Statement};

/// SQLite, Postgres or MySQL: what [`InTx::kind`](crate::InTx::kind) answers, as `Kind::of::<Postgres>()`.
#[derive(Clone, Copy)]
pub struct Kind {
    name: &'static str,
    /// What to do where there is no outbox of this kind.
    cure: &'static str,
    /// `None` where evented was built without it.
    held: Option<Held>,
}

/// What `emit_in` asks of a database whose type it does not know.
#[derive(Clone, Copy)]
struct Held {
    database: TypeId,
    statements: fn(&NewRow) -> Vec<Statement>,
    explain: fn(&NewRow, &sqlx::Error) -> Option<Error>,
}

impl Kind {
    /// The kind that sqlx calls `Db`: `evented::sqlx::Sqlite`, `Postgres` or `MySql`.
    #[must_use]
    pub fn of<Db: Outboxed>() -> Self {
        let held = Held { database: TypeId::of::<Db>(), statements: Db::statements, explain: Db::explain };
        Self { name: Db::KIND, cure: "give it the pool with `.outbox(pool)`", held: Some(held) }
    }

    /// A kind that evented was built without.
    #[cfg(feature = "sea-orm")]
    pub(super) fn without(name: &'static str, cure: &'static str) -> Self {
        Self { name, cure, held: None }
    }

    /// Whether it is the kind whose type has this id.
    pub(crate) fn is(self, database: TypeId) -> bool {
        self.held.is_some_and(|held| held.database == database)
    }

    /// The error of a transaction that has no outbox.
    pub(crate) fn no_outbox(self) -> Error {
        Error::new(ErrorKind::NoOutbox, format!("`run()` was given no outbox for {}; {}", self.name, self.cure))
    }

    /// The row as statements for a transaction of another library.
    pub(super) fn statements(self, row: &NewRow) -> Result<Vec<Statement>, Error> {
        self.held.map(|held| (held.statements)(row)).ok_or_else(|| self.no_outbox())
    }

    /// What the failure of such a statement means, where that is known.
    pub(super) fn explain(self, row: &NewRow, error: &sqlx::Error) -> Option<Error> {
        (self.held?.explain)(row, error)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kind({})", self.name)
    }
}
