//! A backup is restored under the running application, which meanwhile had recorded a further handler.

use std::time::Duration;

use evented_tests::{Seen, eventually};

use super::{
    goes_on, new, old,
    subject::{Subject, on_each_store},
};

/// What two instances ask for in this time with nothing to do is far less; one that spins asks a thousand times a second.
const CALM: Duration = Duration::from_secs(2);
const WORK_MAX: u64 = 400;

const ALL: &[&str] = &["hear", "hear-told", "learn", "learn-told"];

async fn restored(mut subject: Subject) {
    let seen = Seen::default();
    let app = subject.run(old::HERE, &seen).await.unwrap();
    goes_on(&subject, &app, &seen, &["hear", "hear-told"]).await;
    subject.back_up();
    let later = subject.run(new::HERE, &seen).await.unwrap();
    goes_on(&subject, &app, &seen, ALL).await;

    subject.restore();
    goes_on(&subject, &app, &seen, ALL).await;
    goes_on(&subject, &later, &seen, ALL).await;
    is_calm(&subject).await;
}

/// Once what was emitted is worked off, nothing spins.
async fn is_calm(subject: &Subject) {
    eventually("it comes to rest", async || {
        let Some(before) = subject.work() else { return true };
        tokio::time::sleep(CALM).await;
        subject.work().unwrap() - before < WORK_MAX
    })
    .await;
}

/// The process that had recorded the further handler is gone: nobody records anything after the restore.
async fn nobody_records(mut subject: Subject) {
    let seen = Seen::default();
    let app = subject.run(old::HERE, &seen).await.unwrap();
    goes_on(&subject, &app, &seen, &["hear", "hear-told"]).await;
    subject.back_up();
    let later = subject.run(new::HERE, &seen).await.unwrap();
    goes_on(&subject, &app, &seen, ALL).await;
    later.stop().await;

    subject.restore();
    goes_on(&subject, &app, &seen, &["hear", "hear-told"]).await;
    is_calm(&subject).await;
}

/// A handler that was recorded after the restore has the generation that another had before it.
async fn another_generation(mut subject: Subject) {
    let seen = Seen::default();
    let app = subject.run(old::HERE, &seen).await.unwrap();
    goes_on(&subject, &app, &seen, &["hear", "hear-told"]).await;
    subject.back_up();
    subject.restore();
    let later = subject.run(new::HERE, &seen).await.unwrap();
    goes_on(&subject, &app, &seen, ALL).await;
    later.stop().await;
    subject.restore();
    let again = subject.run(new::HERE, &seen).await.unwrap();
    goes_on(&subject, &app, &seen, ALL).await;
    again.stop().await;
}

on_each_store! {
    emits_go_on_and_a_handler_that_the_backup_does_not_know_gets_its_events => restored;
    emits_go_on_where_nobody_records_a_handler => nobody_records;
    a_handler_recorded_after_the_restore_gets_its_events => another_generation;
}
