//! What a process remembers of a store, and which store it is: a store that is restored, emptied, flushed, deleted or copied
//! while the application runs, one that has two names, and two that are taken for one.

mod copied;
mod emptied;
mod file;
mod names;
mod restored;
mod subject;

use std::sync::atomic::{AtomicU32, Ordering};

use evented::{App, prelude::*};
use evented_tests::{Seen, eventually};
use serde::{Deserialize, Serialize};

use self::subject::Subject;

#[event(id = "memory.rang")]
#[derive(Serialize, Deserialize)]
struct Rang {
    number: u32,
}

#[event(transactional, id = "memory.told")]
#[derive(Serialize, Deserialize)]
struct Told {
    number: u32,
}

/// Handlers of the application as it began.
mod old {
    use super::*;

    pub const HERE: &str = module_path!();

    #[handler(Rang, background, id = "memory.hear")]
    async fn hear(event: Rang, seen: State<Seen>) {
        seen.note(format!("hear {}", event.number));
    }

    #[handler(Told, outbox, id = "memory.hear-told")]
    async fn hear_told(event: Told, seen: State<Seen>) {
        seen.note(format!("hear-told {}", event.number));
    }
}

/// Handlers that a later release added.
mod new {
    use super::*;

    pub const HERE: &str = module_path!();

    #[handler(Rang, background, id = "memory.learn")]
    async fn learn(event: Rang, seen: State<Seen>) {
        seen.note(format!("learn {}", event.number));
    }

    #[handler(Told, outbox, id = "memory.learn-told")]
    async fn learn_told(event: Told, seen: State<Seen>) {
        seen.note(format!("learn-told {}", event.number));
    }
}

/// A number that no other event has.
fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Emits again and again, by itself and in a transaction, until one event was emitted so that all of these have had it.
async fn goes_on(subject: &Subject, app: &App, seen: &Seen, handlers: &[&str]) {
    let (mut rang, mut told, mut last) = (Vec::new(), Vec::new(), String::new());
    let mut turn = 0;
    let heard = |noted: &[String], handler: &str, numbers: &[u32]| {
        numbers.iter().any(|number| noted.contains(&format!("{handler} {number}")))
    };
    let looking = async {
        loop {
            // Not each time, so that what is emitted is also worked off.
            if turn % 20 == 0 {
                let number = number();
                match app.emit(Rang { number }).await {
                    Ok(()) => rang.push(number),
                    Err(error) => last = format!("{error:?}"),
                }
                match subject.tell(app, number).await {
                    Ok(()) => told.push(number),
                    Err(error) => last = format!("{error:?}"),
                }
            }
            turn += 1;
            let noted = seen.all();
            if handlers.iter().all(|handler| {
                let numbers = if handler.ends_with("told") { &told } else { &rang };
                heard(&noted, handler, numbers)
            }) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let went_on = tokio::time::timeout(evented_tests::DEADLINE, looking).await.is_ok();
    assert!(
        went_on,
        "{} and {} emits were stored, not all of {handlers:?} had one; the last error: {last}; health: {}",
        rang.len(),
        told.len(),
        app.health()
    );
    eventually("it is well", async || app.health().is_ok()).await;
}
