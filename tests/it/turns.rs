//! The line in which the writers of one process stand before a file of SQLite.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use evented::{
    App, Role,
    sqlx::{SqlitePool, query},
};
use evented_tests::{Place, open_pool};
use tokio::task::JoinSet;

/// The line is there where a store has the file open.
async fn start(place: &Place, pool: &SqlitePool) -> App {
    let run = evented::run().install(false).module(module_path!()).role(Role::Emit);
    run.queue(place.queue()).outbox(pool.clone()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_one_process_take_turns_also_by_other_names_of_the_file() {
    const WRITERS: usize = 4;
    let place = Place::new();
    let pool = place.pool().await;
    let _app = start(&place, &pool).await;
    std::os::unix::fs::symlink(place.path("shop.db"), place.path("link.db")).unwrap();
    let pools = [pool, open_pool(place.path("link.db")).await];
    let turns = Arc::new(Mutex::new(Vec::new()));
    let mut writing = JoinSet::new();
    for writer in 0..WRITERS {
        let (pool, turns) = (pools[writer % 2].clone(), Arc::clone(&turns));
        writing.spawn(async move {
            for entry in 0..25 {
                let mut tx = evented::begin(&pool).await.unwrap();
                turns.lock().unwrap().push(writer);
                query("insert into ledger (entry) values (?)").bind(entry).execute(&mut *tx).await.unwrap();
                // Long enough for the others to come.
                tokio::time::sleep(Duration::from_millis(2)).await;
                tx.commit().await.unwrap();
            }
        });
    }
    writing.join_all().await;
    let turns = turns.lock().unwrap();
    let again = turns.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!(again < turns.len() / 10, "{again} times somebody went before those who waited: {turns:?}");
}

#[tokio::test]
async fn a_turn_ends_with_a_transaction_that_is_dropped_or_cannot_begin() {
    let place = Place::new();
    let pool = place.pool().await;
    let _app = start(&place, &pool).await;
    drop(evented::begin(&pool).await.unwrap());
    // sqlx's own transaction holds the lock, and nobody's turn.
    let holder = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let options = (*pool.connect_options()).clone().busy_timeout(Duration::from_millis(10));
    let hurried = SqlitePool::connect_with(options).await.unwrap();
    let error = evented::begin(&hurried).await.unwrap_err();
    assert!(error.to_string().contains("database is locked"), "{error}");
    drop(holder);
    let began = tokio::time::timeout(Duration::from_secs(2), evented::begin(&pool)).await;
    began.expect("the line is free").unwrap().commit().await.unwrap();
}
