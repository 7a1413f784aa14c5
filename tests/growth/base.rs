//! An application's database with its handlers: a handler's `Tx` is of one database, so each has them all.

use std::time::Duration;

use anyhow::ensure;
use evented::{
    App, EventId, Outboxed, Transaction,
    prelude::*,
    sqlx::{
        self, PgConnection, Pool, Postgres, SqliteConnection,
        postgres::PgPoolOptions,
        query,
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
    },
};
use evented_tests::ground::sqlite_path;
use serde::{Deserialize, Serialize};

/// More than handlers and writers ask for at once.
const CONNECTIONS_MAX: u32 = 12;
/// Writers of a file stand in line.
const BUSY: Duration = Duration::from_mins(1);
/// About the size of a small order.
pub const TEXT: &str = "ada.lovelace@example.co.uk orders one analytical engine";

/// A database that has an outbox here.
pub trait Base: Outboxed {
    /// The module of the handlers.
    const HANDLERS: &'static str;

    /// Opens it, and makes the application's table.
    fn pool(url: &str) -> impl Future<Output = sqlx::Result<Pool<Self>>> + Send;
    /// Emits what a transaction of the application does.
    fn pay(app: &App, tx: &mut Transaction<Self>, number: u64) -> impl Future<Output = evented::Result<()>> + Send;
    /// Emits what needs no transaction.
    fn emit(app: &App, kind: Kind, number: u64) -> impl Future<Output = evented::Result<()>> + Send;
    /// Notes that a handler ran.
    fn note(conn: &mut Self::Connection) -> impl Future<Output = sqlx::Result<()>> + Send;
}

/// A way in which rows come and go.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Nothing but a handler.
    Plain,
    /// With an id of the application's.
    Named,
    /// Unique and ordered handlers.
    Keyed,
    /// Later.
    Delayed,
    /// It fails at first, or always.
    Flaky,
    /// Its handler runs in a transaction of the application's database.
    Booked,
}

macro_rules! base {
    ($module:ident, $Db:ident, $Connection:ident, [$Plain:ident, $Named:ident, $Keyed:ident, $Delayed:ident, $Flaky:ident, $Booked:ident, $Paid:ident]) => {
        mod $module {
            use super::*;

            pub const HANDLERS: &str = module_path!();

            events!($Plain, $Named, $Keyed, $Delayed, $Flaky, $Booked);

            #[event(transactional)]
            #[derive(Serialize, Deserialize)]
            pub struct $Paid {
                pub number: u64,
                pub text: String,
            }

            #[handler($Plain, background)]
            async fn plain(_event: $Plain) {}

            #[handler($Named, background)]
            async fn named(_event: $Named) {}

            #[handler($Keyed, background(unique(key = "key", within = "2s")))]
            async fn first_of_key(_event: $Keyed) {}

            #[handler($Keyed, background(ordered_by = "key"))]
            async fn in_order(_event: $Keyed) {}

            #[handler($Delayed, background)]
            async fn delayed(_event: $Delayed) {}

            #[handler($Flaky, background(retries = 1, backoff(fixed = "500ms")))]
            async fn flaky(event: $Flaky, delivery: Delivery) -> anyhow::Result<()> {
                fail(event.number, &delivery)
            }

            #[handler($Booked, background)]
            async fn book(_event: $Booked, tx: &mut Tx<$Db>) -> anyhow::Result<()> {
                Ok($Db::note(tx).await?)
            }

            #[handler($Paid, outbox)]
            async fn enter(_event: $Paid, tx: &mut Tx<$Db>) -> anyhow::Result<()> {
                Ok($Db::note(tx).await?)
            }

            #[handler($Paid, background)]
            async fn mail(_event: $Paid) {}

            #[handler($Paid, background(ordered_by = "number"))]
            async fn ship(_event: $Paid) {}
        }

        impl Base for $Db {
            const HANDLERS: &'static str = $module::HANDLERS;

            async fn pay(app: &App, tx: &mut Transaction<$Db>, number: u64) -> evented::Result<()> {
                app.emit_in(tx, $module::$Paid { number: number % KEYS, text: TEXT.to_owned() }).await
            }

            async fn emit(app: &App, kind: Kind, number: u64) -> evented::Result<()> {
                let (text, key) = (TEXT.to_owned(), number / PARTS % KEYS);
                match kind {
                    Kind::Plain => app.emit($module::$Plain { number, key, text }).await,
                    Kind::Named => {
                        let id = EventId::from_key(&format!("order {number}"));
                        app.emit($module::$Named { number, key, text }).id(id).await
                    }
                    Kind::Keyed => app.emit($module::$Keyed { number, key, text }).await,
                    Kind::Delayed => app.emit($module::$Delayed { number, key, text }).after(DELAY).await,
                    Kind::Flaky => app.emit($module::$Flaky { number, key, text }).await,
                    Kind::Booked => app.emit($module::$Booked { number, key, text }).await,
                }
            }

            async fn note(conn: &mut $Connection) -> sqlx::Result<()> {
                query("insert into notes (number) values (1)").execute(conn).await.map(drop)
            }

            async fn pool(url: &str) -> sqlx::Result<Pool<$Db>> {
                let pool = $module(url).await?;
                query("create table notes (number bigint not null)").execute(&pool).await?;
                Ok(pool)
            }
        }
    };
}

macro_rules! events {
    ($($Event:ident),+) => {$(
        #[event]
        #[derive(Serialize, Deserialize)]
        pub struct $Event {
            pub number: u64,
            pub key: u64,
            pub text: String,
        }
    )+};
}

/// Of so many events, each kind has its part.
pub const PARTS: u64 = 20;
/// How many keys there are at once.
const KEYS: u64 = 2000;
/// How late what is delayed becomes due.
const DELAY: Duration = Duration::from_secs(2);
/// Of so many that fail at first, one fails again and is dead.
const DEAD: u64 = 4;

fn fail(number: u64, delivery: &Delivery) -> anyhow::Result<()> {
    ensure!(delivery.attempt() > 1 && !(number / PARTS).is_multiple_of(DEAD), "it fails on purpose");
    Ok(())
}

async fn sqlite(url: &str) -> sqlx::Result<Pool<Sqlite>> {
    let options = SqliteConnectOptions::new().filename(sqlite_path(url)).create_if_missing(true);
    let options = options.journal_mode(SqliteJournalMode::Wal).busy_timeout(BUSY);
    SqlitePoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(BUSY).connect_with(options).await
}

async fn postgres(url: &str) -> sqlx::Result<Pool<Postgres>> {
    PgPoolOptions::new().max_connections(CONNECTIONS_MAX).connect(url).await
}

base!(
    sqlite,
    Sqlite,
    SqliteConnection,
    [PlainInSqlite, NamedInSqlite, KeyedInSqlite, DelayedInSqlite, FlakyInSqlite, BookedInSqlite, PaidInSqlite]
);
base!(
    postgres,
    Postgres,
    PgConnection,
    [
        PlainInPostgres,
        NamedInPostgres,
        KeyedInPostgres,
        DelayedInPostgres,
        FlakyInPostgres,
        BookedInPostgres,
        PaidInPostgres
    ]
);
