//! An application's database, in which the outbox is kept: what differs from one to the other.

use std::time::Duration;

use evented::{
    Outboxed,
    sqlx::{
        self, MySql, MySqlConnection, PgConnection, Pool, Postgres, Sqlite, SqliteConnection,
        mysql::MySqlPoolOptions,
        postgres::PgPoolOptions,
        query, query_as,
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
    },
};
use evented_tests::{
    Place, clock,
    ground::sqlite_path,
    servers::{self, Mariadb},
};

/// More than writers and handlers of one process ask for at once.
const CONNECTIONS_MAX: u32 = 10;
/// Writers of a file stand in line, and nobody sees to their order.
const BUSY: Duration = Duration::from_mins(1);
/// How long a connection to a server is waited for.
const CONNECT: Duration = Duration::from_secs(5);

/// The application's tables: what was ordered, and what the handlers with a `Tx` wrote.
///
/// Nothing there keeps an effect from being written twice.
const TABLES: [&str; 3] = [
    "create table if not exists orders (number bigint not null primary key, events bigint not null)",
    "create table if not exists effects (number bigint not null)",
    "create table if not exists effects_inbox (number bigint not null)",
];

/// A database that an application may have.
pub trait Base: Outboxed {
    /// Its name on the command line and in the lines.
    const STORE: &'static str;
    /// Inserts an order: its number, and how many events it has.
    const ORDER: &'static str;
    /// Inserts the number of an event.
    const EFFECT: &'static str;
    /// Inserts the number of an event.
    const EFFECT_INBOX: &'static str;

    /// A folder or a private server.
    type Place: Send;

    /// A new place; `None` where the server is not installed, which the harness says.
    fn place() -> Option<Self::Place>;
    /// The URL of a new, empty database.
    fn database(place: &Self::Place) -> String;
    /// Kills the server and starts it again; false where there is none.
    fn restart(place: &mut Self::Place) -> bool;
    /// Opens it as an application would.
    fn pool(url: &str) -> impl Future<Output = sqlx::Result<Pool<Self>>> + Send;
    /// Runs a statement with these numbers.
    fn write(
        conn: &mut Self::Connection,
        sql: &'static str,
        numbers: &[i64],
    ) -> impl Future<Output = sqlx::Result<()>> + Send;
    /// Reads pairs of numbers.
    fn read(pool: &Pool<Self>, sql: &'static str) -> impl Future<Output = sqlx::Result<Vec<(i64, i64)>>> + Send;
    /// Inserts a row into evented's own outbox, as a hand would that knows its table.
    fn raw(
        conn: &mut Self::Connection,
        id: [u8; 16],
        unix_ms: i64,
        payload: &[u8],
    ) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Makes the application's tables.
    fn make_tables(pool: &Pool<Self>) -> impl Future<Output = anyhow::Result<()>> + Send {
        async {
            let mut conn = pool.acquire().await?;
            for sql in TABLES {
                Self::write(&mut *conn, sql, &[]).await?;
            }
            Ok(())
        }
    }
}

/// The statements, with the placeholders of a database.
macro_rules! statements {
    ($Db:ident, $Connection:ident, [$one:literal, $two:literal, $three:literal, $four:literal, $five:literal, $six:literal]) => {
        const ORDER: &'static str = concat!("insert into orders (number, events) values (", $one, ", ", $two, ")");
        const EFFECT: &'static str = concat!("insert into effects (number) values (", $one, ")");
        const EFFECT_INBOX: &'static str = concat!("insert into effects_inbox (number) values (", $one, ")");

        async fn write(conn: &mut $Connection, sql: &'static str, numbers: &[i64]) -> sqlx::Result<()> {
            let bound = numbers.iter().fold(query(sql), |query, number| query.bind(*number));
            bound.execute(conn).await.map(drop)
        }

        async fn read(pool: &Pool<$Db>, sql: &'static str) -> sqlx::Result<Vec<(i64, i64)>> {
            query_as(sql).fetch_all(pool).await
        }

        async fn raw(conn: &mut $Connection, id: [u8; 16], unix_ms: i64, payload: &[u8]) -> sqlx::Result<()> {
            let row = query(concat!(
                "insert into evented_outbox (event_id, event, due_at, version, emitted_at, payload) values (",
                $one,
                ", ",
                $two,
                ", ",
                $three,
                ", ",
                $four,
                ", ",
                $five,
                ", ",
                $six,
                ")"
            ));
            let row = row.bind(&id[..]).bind("Placed").bind(unix_ms).bind(1).bind(unix_ms).bind(payload);
            row.execute(conn).await.map(drop)
        }
    };
}

impl Base for Sqlite {
    const STORE: &'static str = "sqlite";

    type Place = Place;

    statements!(Sqlite, SqliteConnection, ["?", "?", "?", "?", "?", "?"]);

    fn place() -> Option<Place> {
        Some(Place::new())
    }

    fn database(place: &Place) -> String {
        format!("sqlite:{}", place.path(&format!("shop-{}.db", clock::nanos())).display())
    }

    fn restart(_place: &mut Place) -> bool {
        false
    }

    async fn pool(url: &str) -> sqlx::Result<Pool<Self>> {
        let options = SqliteConnectOptions::new().filename(sqlite_path(url)).create_if_missing(true);
        let options = options.journal_mode(SqliteJournalMode::Wal).busy_timeout(BUSY);
        SqlitePoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(BUSY).connect_with(options).await
    }
}

impl Base for Postgres {
    const STORE: &'static str = "postgres";

    type Place = servers::Postgres;

    statements!(Postgres, PgConnection, ["$1", "$2", "$3", "$4", "$5", "$6"]);

    fn place() -> Option<servers::Postgres> {
        servers::Postgres::start(&[])
    }

    fn database(place: &servers::Postgres) -> String {
        place.database()
    }

    fn restart(place: &mut servers::Postgres) -> bool {
        place.restart();
        true
    }

    async fn pool(url: &str) -> sqlx::Result<Pool<Self>> {
        PgPoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(CONNECT).connect(url).await
    }
}

impl Base for MySql {
    const STORE: &'static str = "mysql";

    type Place = Mariadb;

    statements!(MySql, MySqlConnection, ["?", "?", "?", "?", "?", "?"]);

    fn place() -> Option<Mariadb> {
        Mariadb::start(&[])
    }

    fn database(place: &Mariadb) -> String {
        place.database()
    }

    fn restart(place: &mut Mariadb) -> bool {
        place.restart();
        true
    }

    async fn pool(url: &str) -> sqlx::Result<Pool<Self>> {
        MySqlPoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(CONNECT).connect(url).await
    }
}
