//! What a person does: pause and resume, look at queues, decide on dead letters; and whether an instance is well.

use std::time::Duration;

use evented::{QueueCount, prelude::*, sqlx::query};
use evented_tests::{Place, Seen, count_of, eventually, file};
use serde::{Deserialize, Serialize};

#[event]
#[derive(Serialize, Deserialize)]
struct Sent {
    number: u64,
}

#[handler(Sent, background(queue = "mail", retries = 0))]
async fn send(event: Sent, seen: State<Seen>) -> anyhow::Result<()> {
    seen.note(format!("sent {}", event.number));
    anyhow::ensure!(seen.count("mended") > 0, "no such mailbox");
    Ok(())
}

#[handler(Sent, background(queue = "stock"))]
async fn count(_event: Sent, seen: State<Seen>) {
    seen.note("counted");
}

async fn queue_of(app: &evented::App, name: &str) -> QueueCount {
    let queues = app.queues().await.unwrap();
    queues.into_iter().find(|queue| queue.queue == name).expect("the queue is known")
}

#[tokio::test]
async fn a_paused_queue_rests_until_it_is_resumed_and_others_go_on() {
    let (place, seen) = (Place::new(), Seen::default());
    // From a process that works on nothing, while nobody works.
    let desk = run!(place, seen).role(Role::Emit).await.unwrap();
    desk.pause("mail").await.unwrap();
    let app = run!(place, seen).await.unwrap();
    app.emit(Sent { number: 1 }).await.unwrap();
    eventually("the other queue goes on", async || seen.count("counted") == 1).await;
    let mail = queue_of(&app, "mail").await;
    assert!(mail.paused);
    assert_eq!((mail.waiting, mail.done + mail.dead), (1, 0));
    assert!(!queue_of(&app, "stock").await.paused);

    desk.resume("mail").await.unwrap();
    eventually("the mail is tried", async || seen.count("sent 1") == 1).await;
    app.until_idle().await.unwrap();
    let mail = queue_of(&app, "mail").await;
    assert_eq!((mail.paused, mail.waiting, mail.dead), (false, 0, 1));
}

#[tokio::test]
async fn dead_letters_are_told_tried_again_and_discarded() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run!(place, seen).await.unwrap();
    app.emit_all((0..5).map(|number| Sent { number })).await.unwrap();
    app.until_idle().await.unwrap();
    let letters = app.dead_letters_of("Sent/send").await.unwrap();
    assert_eq!(letters.len(), 5);
    assert!(letters.iter().all(|letter| letter.error == "no such mailbox" && letter.attempts == 1));
    assert!(letters.iter().all(|letter| letter.died_at.elapsed().unwrap() < Duration::from_mins(1)));
    assert!(app.dead_letters_of("Sent/count").await.unwrap().is_empty());

    assert!(app.discard(letters[0].id).await.unwrap());
    assert!(!app.discard(letters[0].id).await.unwrap(), "it is gone");
    seen.note("mended");
    assert!(app.requeue(letters[1].id).await.unwrap());
    app.until_idle().await.unwrap();
    assert_eq!(app.dead_letters().await.unwrap().len(), 3);
    assert_eq!(app.requeue_all("Sent/send").await.unwrap(), 3);
    app.until_idle().await.unwrap();
    assert!(app.dead_letters().await.unwrap().is_empty());
    assert_eq!(count_of(&app, "Sent/send").await.done, 4);
    assert_eq!(app.discard_all("Sent/send").await.unwrap(), 0);
}

#[tokio::test]
async fn an_instance_whose_store_is_held_by_another_is_not_well_until_it_lets_go() {
    let (place, seen) = (Place::new(), Seen::default());
    seen.note("mended");
    let app = run!(place, seen).await.unwrap();
    assert!(app.health().is_ok(), "{}", app.health());
    let pool = file(&place).await;
    app.emit(Sent { number: 1 }).after(Duration::from_millis(200)).await.unwrap();
    let mut lock = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    query("update evented_schema set version = version").execute(&mut *lock).await.unwrap();
    eventually("it is told", async || !app.health().is_ok()).await;
    let health = app.health();
    assert!(health.problems[0].what.contains("working off sqlite:"), "{health}");
    assert!(health.to_string().contains("evented.db fails for"), "{health}");
    lock.rollback().await.unwrap();
    eventually("it is well again", async || app.health().is_ok()).await;
    app.until_idle().await.unwrap();
    assert_eq!(seen.count("sent 1"), 1);
}
