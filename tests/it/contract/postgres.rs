//! The sites of Postgres, each a database of its own on the server that the tests share: a queue's, and an application's with
//! an outbox.

use evented::{
    App, EventId, Role, Tx,
    sqlx::{PgPool, Postgres as Db, query, query_scalar},
    store::{Store, TxCall, open_outbox, open_queue},
    testing::{End, OutboxSite, Site},
};
use evented_tests::servers::Postgres;
use serde::{Deserialize, Serialize};

pub struct Queue(String);

impl Site for Queue {
    const NAME: &'static str = "Postgres";

    async fn new() -> Option<Self> {
        Some(Self(Postgres::shared()?.database()))
    }

    async fn open(&self) -> Store {
        open_queue(&self.0).await.unwrap()
    }
}

pub struct Outbox {
    /// An instance that only emits: nobody relays or works behind a test's back.
    app: App,
    pool: PgPool,
    url: String,
}

#[evented::event(transactional)]
#[derive(Serialize, Deserialize)]
struct DeedSigned {
    key: String,
}

impl Site for Outbox {
    const NAME: &'static str = "Postgres, beside an outbox";

    async fn new() -> Option<Self> {
        let url = Postgres::shared()?.database();
        let pool = PgPool::connect(&url).await.unwrap();
        query("create table ledger (entry int8 not null)").execute(&pool).await.unwrap();
        let app = evented::run()
            .module("no_module_of_this_name")
            .role(Role::Emit)
            .install(false)
            .queue(&url)
            .outbox(pool.clone())
            .await
            .unwrap();
        // The instance has said that the outbox feeds its queue: a promise says so itself.
        query("update evented_schema set feeds = null").execute(&pool).await.unwrap();
        Some(Self { app, pool, url })
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
        self.app.emit_in(&mut tx, DeedSigned { key: key.to_owned() }).id(id).await.unwrap();
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
                let tx: &mut Tx<Db> = tx.downcast_mut().expect("the store hands out its own transaction");
                query("insert into ledger values ($1)").bind(entry).execute(&mut **tx).await?;
                match end {
                    End::Well => Ok(()),
                    End::Failing => Err("the ledger is closed".into()),
                    End::RollingBack => Ok(query("rollback").execute(&mut **tx).await.map(drop)?),
                    End::RollingBackAndFailing => {
                        query("rollback").execute(&mut **tx).await?;
                        Err("the ledger is closed".into())
                    }
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
