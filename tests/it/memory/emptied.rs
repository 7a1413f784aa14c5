//! All rows are deleted, or all keys: as tests do between their cases, and operators by mistake.

use std::time::Duration;

use evented::{Role, prelude::*};
use evented_tests::{Seen, eventually};

use super::{
    Rang, goes_on, number, old,
    subject::{Subject, on_each_store},
};

const OLD: &[&str] = &["hear", "hear-told"];

async fn while_it_runs(subject: Subject) {
    let seen = Seen::default();
    let app = subject.run(old::HERE, &seen).await.unwrap();
    goes_on(&subject, &app, &seen, OLD).await;
    subject.empty();
    goes_on(&subject, &app, &seen, OLD).await;
}

async fn before_a_start(subject: Subject) {
    let seen = Seen::default();
    let app = subject.run(old::HERE, &seen).await.unwrap();
    goes_on(&subject, &app, &seen, OLD).await;
    app.stop().await;
    subject.empty();
    // A queue that was emptied while nobody ran is a new one, and an outbox beside it knows the old.
    if let Some((outbox, queue)) = subject.apart() {
        let refused = subject.run(old::HERE, &seen).await.unwrap_err().to_string();
        assert!(refused.contains("feeds the queue") && refused.contains("evented::adopt"), "{refused}");
        evented::adopt(&outbox, &queue).await.unwrap();
    }
    let app = subject.run(old::HERE, &seen).await.unwrap();
    goes_on(&subject, &app, &seen, OLD).await;
}

async fn one_table(subject: Subject) {
    let seen = Seen::default();
    let app = subject.run(old::HERE, &seen).await.unwrap();
    goes_on(&subject, &app, &seen, OLD).await;
    for table in subject.tables() {
        println!("{table} is emptied");
        subject.empty_one(&table);
        goes_on(&subject, &app, &seen, OLD).await;
        let other = subject.run(old::HERE, &seen).await.unwrap_or_else(|error| panic!("without {table}: {error:?}"));
        other.stop().await;
    }
}

/// A handler of the queue's alone.
mod alone {
    use super::*;

    pub const HERE: &str = module_path!();

    #[handler(Rang, background, id = "memory.hear-alone")]
    async fn hear_alone(event: Rang, seen: State<Seen>) {
        seen.note(format!("hear-alone {}", event.number));
    }
}

/// A process that emits and links nothing, and one that works. Neither has an outbox, and nothing but the queue says so.
async fn handlers_of_a_queue_alone(subject: Subject) {
    let seen = Seen::default();
    let works = subject.run_alone(alone::HERE, &seen).role(Role::Work).await.unwrap();
    let emits = subject.run_alone("no_module_of_this_name", &seen).role(Role::Emit).await.unwrap();
    for turn in 0..2 {
        if turn > 0 {
            // Whoever has done something looks around once more, and would find it by chance.
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            subject.forget_handlers();
        }
        let mut numbers = Vec::new();
        let mut last = None;
        let heard = async || {
            let number = number();
            last = emits.emit(Rang { number }).await.err();
            numbers.push(number);
            tokio::time::sleep(Duration::from_millis(50)).await;
            let noted = seen.all();
            numbers.iter().any(|number| noted.contains(&format!("hear-alone {number}")))
        };
        eventually("what is emitted is heard", heard).await;
        assert!(last.is_none(), "in turn {turn}: {last:?}");
        eventually("both are well", async || emits.health().is_ok() && works.health().is_ok()).await;
    }
}

on_each_store! {
    an_application_goes_on_whose_store_is_emptied_while_it_runs => while_it_runs;
    an_application_starts_on_a_store_that_was_emptied => before_a_start;
    an_application_goes_on_whichever_table_is_emptied => one_table;
    a_queue_alone_goes_on_whose_handlers_are_forgotten => handlers_of_a_queue_alone;
}
