//! A delivery of another store that runs in two processes at once: one waits for the end of the other, and not for ever.

use std::{error::Error, time::Duration};

use evented::{
    EventId, Tx,
    sqlx::{Connection, PgConnection, Postgres as Db, query},
    store::{Fence, TxCall, TxEnd, open_outbox},
};
use evented_tests::{DEADLINE, servers::Postgres};
use tokio::time::timeout;

/// What the settings are where the inbox is written, and where a handler writes.
const NOTES: &str = "create table noted (number int8 generated always as identity, setting text);
    create function note() returns trigger language plpgsql as
        $$ begin insert into noted (setting) values (current_setting('lock_timeout')); return new; end $$;
    create trigger note before insert on evented_inbox for each row execute function note()";

/// So that nobody waits for a minute here.
const SHORTER: &str = "create or replace function note() returns trigger language plpgsql as
    $$ begin perform set_config('lock_timeout', '200ms', true); return new; end $$";

fn note() -> TxCall<'static> {
    Box::new(|tx| {
        Box::pin(async move {
            let tx: &mut Tx<Db> = tx.downcast_mut().expect("the store hands out its own transaction");
            let sql = "insert into noted (setting) values (current_setting('lock_timeout'))";
            query(sql).execute(&mut **tx).await?;
            Ok(())
        })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_elsewhere_that_does_not_end_is_waited_for_a_minute_and_then_tried_later() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let store = open_outbox(format!("{url}?options[lock_timeout]=7s")).await.unwrap();
    server.ask(&url, NOTES).unwrap();
    let id = |key: &str| evented::DeliveryId::derive(EventId::from_key(key), "book");
    let end = crate::store::outbox(&store).transact(Fence::Once(id("payment 17")), note()).await.unwrap();
    assert!(matches!(end, TxEnd::Committed), "{end:?}");
    let noted = || server.ask(&url, "select setting from noted order by number").unwrap();
    assert_eq!(noted(), "1min\n7s", "a minute for ours, and what the application has set for its own");

    server.ask(&url, SHORTER).unwrap();
    let mut frozen = PgConnection::connect(&url).await.unwrap();
    let mut tx = frozen.begin().await.unwrap();
    let row = query("insert into evented_inbox values ($1, 0)").bind(id("payment 18").to_bytes());
    row.execute(&mut *tx).await.unwrap();
    let waiting = timeout(DEADLINE, crate::store::outbox(&store).transact(Fence::Once(id("payment 18")), note())).await;
    let error = waiting.expect("it does not wait for ever").unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(error.source().unwrap().to_string().contains("lock timeout"), "{error:?}");
    // The other is dead by now, and its delivery comes again.
    tx.rollback().await.unwrap();
    let end =
        timeout(Duration::from_secs(5), crate::store::outbox(&store).transact(Fence::Once(id("payment 18")), note()))
            .await
            .unwrap()
            .unwrap();
    assert!(matches!(end, TxEnd::Committed), "{end:?}");
    assert_eq!(noted(), "1min\n7s\n7s");
}
