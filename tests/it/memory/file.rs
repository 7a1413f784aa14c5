//! The queue's file is deleted or replaced under a running process: what an emit acknowledges is where others find it.

use std::{fs, time::Duration};

use evented::{App, Role};
use evented_tests::{Place, Seen, eventually};

use super::{Rang, number, old};

async fn start(place: &Place, role: Role, seen: &Seen) -> evented::Result<App> {
    let run = evented::run().install(false).module(old::HERE).state(seen.clone()).role(role).queue(place.queue());
    run.outbox(place.pool().await).await
}

/// Emits until some were acknowledged after the harm, and waits until a process that opened the path after it has had them.
async fn found_by_others(harm: impl FnOnce(&Place)) {
    let (place, seen) = (Place::new(), Seen::default());
    let emits = start(&place, Role::Emit, &seen).await.unwrap();
    emits.emit(Rang { number: number() }).await.unwrap();
    harm(&place);
    // While the first process holds what is left of a file, another may not be able to open it yet.
    let mut works = None;
    eventually("another process starts", async || {
        works = start(&place, Role::Work, &seen).await.ok();
        works.is_some()
    })
    .await;
    let mut acknowledged = Vec::new();
    eventually("emits are acknowledged", async || {
        let number = number();
        if emits.emit(Rang { number }).await.is_ok() {
            acknowledged.push(format!("hear {number}"));
        }
        acknowledged.len() == 10
    })
    .await;
    let all = seen.clone();
    eventually("what was acknowledged is found at the path", async || {
        let noted = all.all();
        acknowledged.iter().all(|event| noted.contains(event))
    })
    .await;
}

fn remove(place: &Place, suffixes: &[&str]) {
    for suffix in suffixes {
        // Which of them are there is SQLite's business.
        let _gone = fs::remove_file(place.path(&format!("evented.db{suffix}")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_after_the_file_was_deleted_is_found_by_others() {
    found_by_others(|place| remove(place, &["", "-wal", "-shm"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_after_the_file_was_replaced_is_found_by_others() {
    found_by_others(|place| {
        // A backup put back by a copy, as people do.
        let file = rusqlite::Connection::open(place.path("evented.db")).unwrap();
        file.execute("vacuum into ?", [place.path("backup.db").to_str()]).unwrap();
        drop(file);
        let backup = rusqlite::Connection::open(place.path("backup.db")).unwrap();
        backup.pragma_update(None, "journal_mode", "wal").unwrap();
        drop(backup);
        remove(place, &["-wal", "-shm"]);
        fs::rename(place.path("backup.db"), place.path("evented.db")).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_after_the_log_was_deleted_is_found_by_others() {
    found_by_others(|place| remove(place, &["-wal"])).await;
}

/// The path was looked at before the write waited for the file's lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_while_the_file_is_deleted_is_refused_or_found_by_others() {
    let (place, seen) = (Place::new(), Seen::default());
    let emits = start(&place, Role::Emit, &seen).await.unwrap();
    emits.emit(Rang { number: number() }).await.unwrap();
    let holder = rusqlite::Connection::open(place.path("evented.db")).unwrap();
    holder.execute_batch("begin immediate").unwrap();
    let number = number();
    let (emitted, ()) = tokio::join!(async { emits.emit(Rang { number }).await }, async {
        // Long enough for the write to wait, most often; where it comes later, it finds that the file is gone.
        tokio::time::sleep(Duration::from_millis(300)).await;
        remove(&place, &["", "-wal", "-shm"]);
        holder.execute_batch("rollback").unwrap();
    });
    if emitted.is_err() {
        return;
    }
    let _works = start(&place, Role::Work, &seen).await.unwrap();
    eventually("it is found at the path", async || seen.count(&format!("hear {number}")) == 1).await;
}
