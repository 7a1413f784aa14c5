//! What the tests share: a folder with a queue and an outbox, waiting for a condition with a deadline, servers of their
//! own, and a network that fails. And what the measuring programs share: their arguments, children and figures.

#![expect(clippy::missing_panics_doc, clippy::must_use_candidate, reason = "a test's helper panics to fail the test")]
#![expect(clippy::missing_errors_doc, reason = "a test needs no heading to find a sentence")]

pub mod servers;
pub mod proxy;
pub mod twin;
pub mod args;
pub mod clock;
pub mod dice;
pub mod figures;
pub mod children;
pub mod ground;
pub mod heard;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use evented::{
    Count,
    sqlx::{
        AssertSqlSafe, SqlitePool, query,
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
    },
};
use tempfile::TempDir;

/// How long a test waits for what must happen.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A folder of a test's own, removed when it is dropped.
pub struct Place(TempDir);

impl Place {
    /// A new folder.
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder can be made"))
    }

    /// A path in the folder.
    pub fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// The URL of the queue in the folder.
    pub fn queue(&self) -> String {
        format!("sqlite:{}", self.path("evented.db").display())
    }

    /// The application's own database, as an application would open it, with a table `ledger`.
    pub async fn pool(&self) -> SqlitePool {
        open_pool(self.path("shop.db")).await
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

/// Opens an application's database, with a table `ledger (entry)`.
pub async fn open_pool(path: PathBuf) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_secs(10));
    let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await.expect("the database opens");
    let table = "create table if not exists ledger (entry integer not null)";
    query(table).execute(&pool).await.expect("the table can be made");
    pool
}

/// Looks again and again until `holds`; panics with `what` when it did not within the deadline.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, looking).await.is_ok(), "did not happen within {DEADLINE:?}: {what}");
}

/// What handlers saw, in order: a state that the test keeps a handle of.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    /// Notes one thing.
    pub fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(what.into());
    }

    /// All that was noted so far.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often `what` was noted.
    pub fn count(&self, what: &str) -> usize {
        self.all().iter().filter(|noted| *noted == what).count()
    }
}

/// The queue's file, opened beside evented: to look into it, and to play another process.
pub async fn file(place: &Place) -> SqlitePool {
    open_pool(place.path("evented.db")).await
}

/// Changes the queue's file behind evented's back.
pub async fn tamper(place: &Place, sql: &str) {
    query(AssertSqlSafe(sql)).execute(&file(place).await).await.expect("the statement is right");
}

/// What became of a handler's deliveries.
pub async fn count_of(app: &evented::App, handler: &str) -> Count {
    let counts = app.counts().await.expect("the stores can be read");
    counts.into_iter().find(|count| count.handler == handler).expect("the handler is known")
}
