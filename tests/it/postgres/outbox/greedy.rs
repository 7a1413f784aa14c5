//! Handlers of which each asks for one more connection of the pool: they do not wait for each other.

use super::*;

#[event(transactional)]
#[derive(Serialize, Deserialize)]
struct TwoTaken;

#[handler(TwoTaken, outbox)]
async fn take_two(_event: TwoTaken, tx: &mut Tx<Postgres>, pool: State<PgPool>) -> anyhow::Result<()> {
    enter(tx, 1).await?;
    query("insert into ledger values (2)").execute(&*pool).await?;
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_each_ask_for_one_more_connection_do_not_wait_for_each_other() {
    let Some(server) = Server::shared() else { return };
    let url = server.database();
    let pool = pool(&url).await;
    let run = evented::run().install(false).module(module_path!()).queue(&url);
    let app = run.outbox(pool.clone()).state(pool.clone()).await.unwrap();
    for _ in 0..24 {
        let mut tx = evented::begin(&pool).await.unwrap();
        app.emit_in(&mut tx, TwoTaken).await.unwrap();
        tx.commit().await.unwrap();
    }
    tokio::time::timeout(DEADLINE, app.until_idle()).await.expect("none is stuck").unwrap();
    let count = count_of(&app, "TwoTaken/take_two").await;
    assert_eq!((count.done, count.retried), (24, 0));
}
