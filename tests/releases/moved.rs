//! The next release moves handlers to other routes and renames one, while events wait for a queue that is away: each handler has
//! each event once, under whatever name and on whatever route.

use std::collections::BTreeSet;

use evented::sqlx::{Connection, Executor, MySql, Postgres, Sqlite, SqliteConnection, sqlite::SqliteConnectOptions};
use evented_tests::{Place, eventually};

use super::{
    ONE, TWO, Worker, ask,
    shop::{Base, Outcome, Shop},
};

const ALL: [&str; 3] = ["book N", "log N", "wave N"];

/// A shop with its queue in a file, which can be locked, whatever its database is.
async fn shop<Db: Base>() -> Option<(Place, Shop<Db>)> {
    let (place, mut shop) = (Place::new(), Db::shop().await?);
    shop.queue = place.queue();
    Some((place, shop))
}

/// Holds the queue's lock: whoever wants to store something there waits.
async fn lock(place: &Place) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(place.path("evented.db"));
    let mut holder = SqliteConnection::connect_with(&options).await.unwrap();
    holder.execute("begin immediate").await.unwrap();
    holder
}

async fn each_handler_has_an_event_once_that_waited_for_the_queue<Db: Base>() {
    let Some((place, shop)) = shop::<Db>().await else { return };
    let older = Worker::start(ONE, &shop);
    ask(ONE, &shop, "sail");
    older.until_all(&ALL);
    assert_eq!(shop.outcome().await.left, 0);
    let holder = lock(&place).await;
    ask(ONE, &shop, "sail");
    eventually("a relay takes the rows", async || Db::rows(&shop.pool).await == (5, 5)).await;
    let said = older.until_all(&["book N"]);
    assert_eq!(said.len(), 5, "{said:?}");
    eventually("what it did in the database is committed", async || shop.ledger().await.len() == 10).await;
    drop(older);
    holder.close().await.unwrap();
    let newer = Worker::start(TWO, &shop);
    let said = newer.until_all(&["log N", "wave N"]);
    assert_eq!(said.len(), 10, "{said:?}");
    assert_eq!(shop.outcome().await, Outcome { left: 0, done: 30, retried: 0, dead: 0 });
    assert_eq!(shop.ledger().await, [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
}

/// The older release pushes to the queue and dies before it finishes the rows: the newer one pushes them again.
async fn what_is_pushed_again_under_other_names_is_stored_once<Db: Base>() {
    let Some((place, shop)) = shop::<Db>().await else { return };
    let older = Worker::start(ONE, &shop);
    ask(ONE, &shop, "sail");
    older.until_all(&ALL);
    assert_eq!(shop.outcome().await.left, 0);
    let holder = lock(&place).await;
    ask(ONE, &shop, "sail");
    eventually("a relay takes the rows", async || Db::rows(&shop.pool).await == (5, 5)).await;
    Db::note(&shop.pool).await;
    holder.close().await.unwrap();
    older.until_all(&ALL);
    assert_eq!(shop.outcome().await.left, 0);
    drop(older);
    eventually("all is finished", async || Db::rows(&shop.pool).await.1 == 0).await;
    Db::restore(&shop.pool).await;
    let newer = Worker::start(TWO, &shop);
    eventually("all is pushed again", async || Db::rows(&shop.pool).await.1 == 0).await;
    ask(TWO, &shop, "sail");
    let said: BTreeSet<String> = newer.until_all(&ALL);
    assert_eq!(said.len(), 15, "{said:?}");
    assert_eq!(shop.outcome().await, Outcome { left: 0, done: 45, retried: 0, dead: 0 });
    assert_eq!(shop.ledger().await, [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5]);
}

super::on_each_database! {
    each_handler_has_an_event_once_that_waited_for_the_queue
    what_is_pushed_again_under_other_names_is_stored_once
}
