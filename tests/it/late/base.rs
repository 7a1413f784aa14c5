//! An application's database, in which the outbox is: how a test opens it, emits in it and looks at its rows. And the queues that
//! are behind a network.

use evented::{
    App, Outboxed, Transaction,
    sqlx::{MySql, Pool, Postgres, Sqlite, mysql::MySqlPoolOptions, postgres::PgPoolOptions, query_scalar},
};
use evented_tests::{
    Place,
    ground::sqlite_path,
    open_pool,
    proxy::Proxy,
    servers::{self, Mariadb, Redis},
};

use super::Sent;

/// A kind of database.
pub trait Base: Outboxed {
    /// The URL of a new database, `None` where its server is not installed.
    fn database(place: &Place) -> Option<String>;
    /// Opens it as an application would.
    fn pool(url: &str) -> impl Future<Output = Pool<Self>>;
    /// Emits an event in a transaction.
    fn send(app: &App, tx: &mut Transaction<Self>, event: Sent) -> impl Future<Output = ()>;
    /// How many rows wait in the outbox.
    fn rows(pool: &Pool<Self>) -> impl Future<Output = i64>;
    /// How many of them a relay has leased.
    fn leased(pool: &Pool<Self>) -> impl Future<Output = i64>;
}

macro_rules! looks {
    ($Db:ident, $lease:literal) => {
        async fn send(app: &App, tx: &mut Transaction<$Db>, event: Sent) {
            app.emit_in(tx, event).await.unwrap();
        }

        async fn rows(pool: &Pool<$Db>) -> i64 {
            query_scalar("select count(*) from evented_outbox").fetch_one(pool).await.unwrap()
        }

        async fn leased(pool: &Pool<$Db>) -> i64 {
            let sql = concat!("select count(*) from evented_outbox where ", $lease, " is not null");
            query_scalar(sql).fetch_one(pool).await.unwrap()
        }
    };
}

impl Base for Sqlite {
    looks!(Sqlite, "lease");

    fn database(place: &Place) -> Option<String> {
        Some(format!("sqlite:{}", place.path("shop.db").display()))
    }

    async fn pool(url: &str) -> Pool<Self> {
        open_pool(sqlite_path(url).into()).await
    }
}

impl Base for Postgres {
    looks!(Postgres, "held");

    fn database(_place: &Place) -> Option<String> {
        Some(servers::Postgres::shared()?.database())
    }

    async fn pool(url: &str) -> Pool<Self> {
        PgPoolOptions::new().max_connections(4).connect(url).await.unwrap()
    }
}

impl Base for MySql {
    looks!(MySql, "lease");

    fn database(_place: &Place) -> Option<String> {
        Some(Mariadb::shared()?.database())
    }

    async fn pool(url: &str) -> Pool<Self> {
        MySqlPoolOptions::new().max_connections(4).connect(url).await.unwrap()
    }
}

/// A queue's server: its address, and the queue's URL at another address.
pub struct Queue {
    pub target: String,
    pub url: String,
}

impl Queue {
    pub fn redis() -> Option<Self> {
        let redis = Redis::shared()?;
        let target = format!("127.0.0.1:{}", redis.port());
        Some(Self { url: format!("redis://{target}/0?prefix={}", redis.prefix()), target })
    }

    pub fn postgres() -> Option<Self> {
        let postgres = servers::Postgres::shared()?;
        Some(Self { url: postgres.database(), target: format!("127.0.0.1:{}", postgres.port()) })
    }

    /// The queue's URL for who is to reach it through the proxy.
    pub fn behind(&self, proxy: &Proxy) -> String {
        self.url.replace(&self.target, &proxy.address().to_string())
    }
}
