//! The site of MySQL: a database of a server that the tests of this process share, with an outbox.

use evented::{
    App, EventId, Role, Tx,
    sqlx::{MySql, MySqlPool, mysql::MySqlPoolOptions, query, query_scalar},
    store::{Store, TxCall, open_outbox},
    testing::{End, OutboxSite, Site},
};
use evented_tests::{Place, servers::Mariadb};
use serde::{Deserialize, Serialize};

pub struct Outbox {
    /// An instance that only emits: nobody relays or works behind a test's back.
    app: App,
    pool: MySqlPool,
    url: String,
    _place: Place,
}

#[evented::event(transactional)]
#[derive(Serialize, Deserialize)]
struct TreatySigned {
    key: String,
}

impl Site for Outbox {
    const NAME: &'static str = "MySQL, beside an outbox";

    async fn new() -> Option<Self> {
        // It blocks the thread while the server starts.
        let url = tokio::task::block_in_place(|| Some(Mariadb::shared()?.database()))?;
        let pool = MySqlPoolOptions::new().max_connections(4).connect(&url).await.unwrap();
        query("create table ledger (entry bigint not null)").execute(&pool).await.unwrap();
        let place = Place::new();
        let app = evented::run()
            .module("no_module_of_this_name")
            .role(Role::Emit)
            .install(false)
            .queue(place.queue())
            .outbox(pool.clone())
            .await
            .unwrap();
        // The instance has said that the outbox feeds its queue: a promise says so itself.
        query("update evented_schema set feeds = null").execute(&pool).await.unwrap();
        Some(Self { app, pool, url, _place: place })
    }

    async fn open(&self) -> Store {
        self.open_outbox().await
    }
}

impl OutboxSite for Outbox {
    async fn open_outbox(&self) -> Store {
        open_outbox(&self.url).await.unwrap()
    }

    async fn emit_in(&self, key: &str, before_its_end: impl AsyncFnOnce() -> bool) -> EventId {
        let id = EventId::from_key(key);
        let mut tx = evented::begin(&self.pool).await.unwrap();
        self.app.emit_in(&mut tx, TreatySigned { key: key.to_owned() }).id(id).await.unwrap();
        if before_its_end().await {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
        id
    }

    fn write(&self, entry: i64, end: End) -> TxCall<'static> {
        Box::new(move |tx| {
            Box::pin(async move {
                let tx: &mut Tx<MySql> = tx.downcast_mut().expect("the store hands out its own transaction");
                query("insert into ledger values (?)").bind(entry).execute(&mut **tx).await?;
                match end {
                    End::Well => Ok(()),
                    End::Failing => Err("the ledger is closed".into()),
                    End::RollingBack => Ok(query("rollback").execute(&mut **tx).await.map(drop)?),
                    End::RollingBackAndFailing => {
                        query("rollback").execute(&mut **tx).await?;
                        Err("the ledger is closed".into())
                    }
                    // As each statement does that changes a table.
                    End::Committing if entry % 4 == 0 => Ok(query("create table if not exists made (entry bigint)")
                        .execute(&mut **tx)
                        .await
                        .map(drop)?),
                    End::Committing => Ok(query("commit").execute(&mut **tx).await.map(drop)?),
                    End::RollingBackAndHanging(ended) => {
                        query("rollback").execute(&mut **tx).await?;
                        ended.notify_one();
                        std::future::pending().await
                    }
                    End::Hanging(written) => {
                        written.notify_one();
                        std::future::pending().await
                    }
                }
            })
        })
    }

    async fn ledger(&self) -> Vec<i64> {
        query_scalar("select entry from ledger order by entry").fetch_all(&self.pool).await.unwrap()
    }
}
