//! The sites of SQLite: a queue's own file, and an application's file with an outbox.

use evented::{
    App, EventId, Role, Tx,
    sqlx::{Sqlite, SqlitePool, query, query_scalar},
    store::{Store, TxCall, open_outbox, open_queue},
    testing::{End, OutboxSite, Site},
};
use evented_tests::{Place, open_pool};
use serde::{Deserialize, Serialize};

pub struct Queue(Place);

impl Site for Queue {
    const NAME: &'static str = "SQLite";

    async fn new() -> Option<Self> {
        Some(Self(Place::new()))
    }

    async fn open(&self) -> Store {
        open_queue(self.0.queue()).await.unwrap()
    }
}

pub struct Outbox {
    /// An instance that only emits: nobody relays or works behind a test's back.
    app: App,
    pool: SqlitePool,
    place: Place,
}

#[evented::event(transactional)]
#[derive(Serialize, Deserialize)]
struct ContractSigned {
    key: String,
}

impl Site for Outbox {
    const NAME: &'static str = "SQLite, beside an outbox";

    async fn new() -> Option<Self> {
        let place = Place::new();
        let pool = open_pool(place.path("shop.db")).await;
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
        Some(Self { app, pool, place })
    }

    async fn open(&self) -> Store {
        self.open_outbox().await
    }
}

impl OutboxSite for Outbox {
    async fn open_outbox(&self) -> Store {
        open_outbox(format!("sqlite:{}", self.place.path("shop.db").display())).await.unwrap()
    }

    async fn emit_in(&self, key: &str, before_its_end: impl AsyncFnOnce() -> bool) -> EventId {
        let id = EventId::from_key(key);
        let mut tx = evented::begin(&self.pool).await.unwrap();
        self.app.emit_in(&mut tx, ContractSigned { key: key.to_owned() }).id(id).await.unwrap();
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
                let tx: &mut Tx<Sqlite> = tx.downcast_mut().expect("the store hands out its own transaction");
                query("insert into ledger values (?)").bind(entry).execute(&mut **tx).await?;
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
