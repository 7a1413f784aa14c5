//! Sessions and ended leases, beside what others do to the same rows.

use std::time::Duration;

use evented::{
    SessionId,
    sqlx::{Connection, PgConnection, query},
    store::{Blame, Claim, Claims, Lapsed, Store, Suspected, Suspects},
};
use evented_tests::{DEADLINE, eventually, servers::Postgres};
use tokio::time::timeout;

use super::{LEASE, claim, delivery, open, push};

const SHORT: Duration = Duration::from_millis(50);

async fn claim_as(store: &Store, session: SessionId, lease: Duration, lapsed: Lapsed) -> Claims {
    let claim = Claim { lease, session, lapsed, ..claim(10) };
    store.queue.exchange([].into(), Some(claim)).await.unwrap().claims
}

async fn suspects(store: &Store) -> Suspected {
    let asked =
        Suspects { queues: claim(10).queues, lease: LEASE, session: SessionId::from_i64(1), exposed: 10, tried: None };
    store.queue.suspects(asked).await.unwrap()
}

/// So many deliveries whose leases have ended, of a session that was dead by then.
async fn of_a_dead_session(store: &Store, count: usize) -> SessionId {
    let dead = SessionId::mint();
    store.queue.extend(dead, &[], SHORT).await.unwrap();
    for number in 0..count {
        push(store, delivery(&number.to_string())).await.unwrap();
    }
    assert_eq!(claim_as(store, dead, SHORT, Lapsed::Take).await.deliveries.len(), count);
    tokio::time::sleep(2 * SHORT).await;
    dead
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_leases_are_claimed_beside_what_is_new_and_counted_once() {
    let Some(server) = Postgres::shared() else { return };
    let store = open(&server.database()).await;
    for key in ["first", "second"] {
        push(&store, delivery(key)).await.unwrap();
    }
    assert_eq!(claim_as(&store, SessionId::from_i64(1), SHORT, Lapsed::Take).await.deliveries.len(), 2);
    push(&store, delivery("third")).await.unwrap();
    tokio::time::sleep(2 * SHORT).await;
    let claims = claim_as(&store, SessionId::from_i64(1), LEASE, Lapsed::Take).await;
    let payloads: Vec<_> = claims.deliveries.iter().map(|claimed| &*claimed.payload).collect();
    assert_eq!(payloads, [&b"first"[..], b"second", b"third"]);
    assert!(!claims.suspects && claims.deliveries.iter().all(|claimed| claimed.blame == Blame::default()));
    let stats = crate::store::admin(&store).stats().await.unwrap();
    assert_eq!((stats.handlers[0].waiting, stats.handlers[0].running), (0, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_has_died_where_the_sessions_were_emptied() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let store = open(&url).await;
    let dead = of_a_dead_session(&store, 2).await;
    server.ask(&url, "truncate evented_sessions").unwrap();
    let claims = claim_as(&store, SessionId::from_i64(1), LEASE, Lapsed::Take).await;
    assert_eq!((claims.deliveries.len(), claims.suspects), (2, false));
    // One that lives is known again with its next renewal.
    let leases: Vec<_> = claims.deliveries.iter().map(|claimed| claimed.lease).collect();
    assert_eq!(store.queue.extend(dead, &leases, LEASE).await.unwrap(), [true, true]);
    assert_eq!(server.ask(&url, "select count(*) from evented_sessions").unwrap(), "1");
    server.ask(&url, "update evented_sessions set until = until - 48 * 3600000 - 60001").unwrap();
    let retention = evented::store::Retention { age: LEASE, count: 10 };
    crate::store::admin(&store).sweep(retention).await.unwrap();
    assert_eq!(server.ask(&url, "select count(*) from evented_sessions").unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_comes_back_while_it_is_said_to_be_dead_takes_that_back() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let (store, other) = (open(&url).await, open(&url).await);
    let slept = of_a_dead_session(&store, 4).await;
    // Another holds its row, as one does that says so: what it says then is there when the session comes back.
    let mut conn = PgConnection::connect(&url).await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    query("select from evented_sessions for share").execute(&mut *tx).await.unwrap();
    let coming_back = tokio::spawn(async move { other.queue.extend(slept, &[], LEASE).await });
    let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    eventually("it waits", async || server.ask(&url, waits).unwrap() == "1").await;
    let claims = claim_as(&store, SessionId::from_i64(1), LEASE, Lapsed::Take).await;
    assert_eq!((claims.deliveries.len(), claims.suspects), (0, true));
    assert_eq!(suspects(&store).await.exposed.len(), 4);
    tx.commit().await.unwrap();
    timeout(DEADLINE, coming_back).await.expect("nothing is in its way").unwrap().unwrap();
    let held = "select count(*) from evented_deliveries where deaths > 0 or suspect > 0 or died_with is not null";
    assert_eq!(server.ask(&url, held).unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspect_that_another_transaction_holds_is_passed_by() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let store = open(&url).await;
    of_a_dead_session(&store, 3).await;
    let mut conn = PgConnection::connect(&url).await.unwrap();
    let mut tx = conn.begin().await.unwrap();
    query("select from evented_deliveries where seq = 1 for update").execute(&mut *tx).await.unwrap();
    let quick = Duration::from_secs(5);
    let claims = timeout(quick, claim_as(&store, SessionId::from_i64(1), LEASE, Lapsed::Take)).await.unwrap();
    assert!(claims.suspects);
    tx.rollback().await.unwrap();
    assert!(claim_as(&store, SessionId::from_i64(1), LEASE, Lapsed::Take).await.suspects, "the first one, too");
    let mut tx = conn.begin().await.unwrap();
    query("select from evented_deliveries where seq = 1 for update").execute(&mut *tx).await.unwrap();
    let suspected = timeout(quick, suspects(&store)).await.unwrap();
    assert_eq!((suspected.exposed.len(), suspected.more), (2, true));
    tx.rollback().await.unwrap();
    let suspected = suspects(&store).await;
    assert_eq!((suspected.exposed.len(), suspected.more), (1, false));
}
