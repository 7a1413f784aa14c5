//! All rows are deleted, or all keys: as tests do between their cases, and operators by mistake.

use evented_tests::Seen;

use super::{
    goes_on, old,
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

on_each_store! {
    an_application_goes_on_whose_store_is_emptied_while_it_runs => while_it_runs;
    an_application_starts_on_a_store_that_was_emptied => before_a_start;
    an_application_goes_on_whichever_table_is_emptied => one_table;
}
