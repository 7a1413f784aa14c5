//! Where the program is deployed: its database with a ledger, its queue, and what the releases left in them.

use std::time::{Duration, Instant};

use evented::{
    Outboxed, Role,
    sqlx::{MySql, MySqlPool, PgPool, Pool, Postgres, Sqlite, query, query_as, query_scalar},
};
use evented_tests::{DEADLINE, Place, servers};
use tokio::task::block_in_place;

const LEDGER: &str = "create table ledger (entry bigint not null)";

/// The program's stores, new and empty.
pub struct Shop<Db: Outboxed> {
    pub database: String,
    pub queue: String,
    pub pool: Pool<Db>,
    _files: Option<Place>,
}

/// A database that the program can have.
pub trait Base: Outboxed {
    /// A shop on it; `None` where the server is not installed, which the harness says.
    async fn shop() -> Option<Shop<Self>>;

    /// The entries of the ledger, sorted.
    async fn ledger(pool: &Pool<Self>) -> Vec<i64>;

    /// How many rows of the outbox a relay has taken, and how many there are.
    async fn rows(pool: &Pool<Self>) -> (i64, i64);

    /// Notes the outbox's rows beside it.
    async fn note(pool: &Pool<Self>);

    /// Puts the noted rows back as those that a dead relay had taken.
    async fn restore(pool: &Pool<Self>);
}

/// What became of all deliveries.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub left: u64,
    pub done: u64,
    pub retried: u64,
    pub dead: u64,
}

impl<Db: Base> Shop<Db> {
    /// Each order that was shipped.
    pub async fn ledger(&self) -> Vec<i64> {
        Db::ledger(&self.pool).await
    }

    /// What the stores count once nothing is left, or when that has taken too long.
    pub async fn outcome(&self) -> Outcome {
        let run = evented::run().install(false).module(module_path!()).role(Role::Emit);
        let app = run.queue(&self.queue).outbox(self.pool.clone()).await.expect("whoever has no handler may look");
        let until = Instant::now() + DEADLINE;
        let outcome = loop {
            let counts = app.counts().await.expect("the stores can be read");
            let outcome = Outcome {
                left: counts.iter().map(|count| count.waiting + count.running).sum(),
                done: counts.iter().map(|count| count.done).sum(),
                retried: counts.iter().map(|count| count.retried).sum(),
                dead: counts.iter().map(|count| count.dead).sum(),
            };
            if outcome.left == 0 || Instant::now() > until {
                break outcome;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        app.stop().await;
        outcome
    }
}

macro_rules! ledger {
    ($Db:ident, $lease:literal, $overriding:literal) => {
        async fn ledger(pool: &Pool<$Db>) -> Vec<i64> {
            let entries = query_scalar("select entry from ledger order by entry");
            entries.fetch_all(pool).await.expect("the ledger can be read")
        }

        async fn rows(pool: &Pool<$Db>) -> (i64, i64) {
            let rows = query_as("select count(target), count(*) from evented_outbox");
            rows.fetch_one(pool).await.expect("the outbox can be read")
        }

        async fn note(pool: &Pool<$Db>) {
            let note = query("create table noted as select * from evented_outbox");
            note.execute(pool).await.expect("the table can be made");
        }

        async fn restore(pool: &Pool<$Db>) {
            for sql in [
                concat!("update noted set due_at = 1, ", $lease, " = null"),
                concat!("insert into evented_outbox ", $overriding, " select * from noted"),
            ] {
                query(sql).execute(pool).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            }
        }
    };
}

impl Base for Sqlite {
    async fn shop() -> Option<Shop<Self>> {
        let files = Place::new();
        let database = format!("sqlite:{}", files.path("shop.db").display());
        Some(Shop { database, queue: files.queue(), pool: files.pool().await, _files: Some(files) })
    }

    ledger!(Sqlite, "lease", "");
}

/// The queue lies in the same database, as it usually does there.
impl Base for Postgres {
    async fn shop() -> Option<Shop<Self>> {
        let database = block_in_place(|| Some(servers::Postgres::shared()?.database()))?;
        let pool = PgPool::connect(&database).await.expect("the server answers");
        query(LEDGER).execute(&pool).await.expect("the table can be made");
        Some(Shop { queue: database.clone(), database, pool, _files: None })
    }

    ledger!(Postgres, "held", "overriding system value");
}

/// The queue is a file beside it: MySQL keeps the outbox alone.
impl Base for MySql {
    async fn shop() -> Option<Shop<Self>> {
        let database = block_in_place(|| Some(servers::Mariadb::shared()?.database()))?;
        let pool = MySqlPool::connect(&database).await.expect("the server answers");
        query(LEDGER).execute(&pool).await.expect("the table can be made");
        let files = Place::new();
        Some(Shop { database, queue: files.queue(), pool, _files: Some(files) })
    }

    ledger!(MySql, "lease", "");
}
