//! Health is red where emits fail, in every role, and where deliveries are due that nobody takes.

use std::time::Duration;

use evented::{App, Health, prelude::*};
use evented_tests::{Place, Seen, eventually, tamper};
use serde::{Deserialize, Serialize};

#[event]
#[derive(Serialize, Deserialize)]
struct Due {
    number: f64,
}

#[handler(Due, background(queue = "due"))]
async fn take(_event: Due) {}

#[handler(Due, background(queue = "kept"))]
async fn keep(_event: Due) {}

#[handler(Due, background(queue = "looked-at"))]
async fn look(_event: Due) {}

/// The red line of what is failing, once it is there.
async fn red(app: &App, what: &str) -> Health {
    eventually("it is red", async || app.health().problems.iter().any(|problem| problem.what.contains(what))).await;
    app.health()
}

/// How often the counts are looked at here.
const LOOK: Duration = Duration::from_millis(100);

#[tokio::test]
async fn emits_that_fail_are_red_in_every_role_until_one_succeeds() {
    for role in [Role::Emit, Role::All, Role::Work] {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).role(role).await.unwrap();
        tamper(&place, "alter table evented_once rename to hidden").await;
        tamper(&place, "alter table evented_deliveries rename to gone").await;
        app.emit(Due { number: 1.0 }).await.unwrap_err();
        let health = red(&app, "storing what is emitted").await;
        assert!(health.to_string().contains("evented.db"), "{health}");
        tamper(&place, "alter table gone rename to evented_deliveries").await;
        tamper(&place, "alter table hidden rename to evented_once").await;
        app.emit(Due { number: 2.0 }).await.unwrap();
        eventually("it is green", async || app.health().is_ok()).await;
    }
}

#[tokio::test]
async fn emits_that_failed_are_green_again_once_a_look_finds_the_store_well() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run!(place, seen).role(Role::Emit).await.unwrap();
    tamper(&place, "alter table evented_deliveries rename to gone").await;
    app.emit(Due { number: 1.0 }).await.unwrap_err();
    red(&app, "storing what is emitted").await;
    tamper(&place, "alter table gone rename to evented_deliveries").await;
    eventually("it is green", async || app.health().is_ok()).await;
}

#[tokio::test]
async fn deliveries_that_nobody_takes_are_red_until_somebody_has() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run!(place, seen).role(Role::Emit).looking_each(LOOK).await.unwrap();
    app.emit_all((0..3).map(|number| Due { number: f64::from(number) })).await.unwrap();
    let said = red(&app, "running the deliveries of `Due/take`").await.to_string();
    assert!(said.contains("3 wait, one has been due for") && said.contains("no running process takes them"), "{said}");
    let worker = run!(place, seen).await.unwrap();
    worker.until_idle().await.unwrap();
    eventually("it is green", async || app.health().is_ok()).await;
}

#[tokio::test]
async fn a_backlog_that_somebody_works_off_is_no_alarm_though_none_runs_at_a_look() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run!(place, seen).role(Role::Emit).looking_each(LOOK).await.unwrap();
    app.emit(Due { number: 1.0 }).await.unwrap();
    let problems = |of: &str| {
        let problems = app.health().problems;
        problems.into_iter().find(|problem| problem.what.contains(of)).map(|problem| problem.lasts)
    };
    // Those of another handler wait as long, and are red all the while.
    while problems("`Due/look`").is_none_or(|lasts| lasts < Duration::from_secs(2)) {
        // A worker that is between two deliveries whenever it is looked at.
        tamper(&place, "update evented_handlers set done = done + 1 where id = 'Due/take'").await;
        assert_eq!(problems("`Due/take`"), None);
        tokio::time::sleep(LOOK / 4).await;
    }
    eventually("nobody takes the rest", async || problems("`Due/take`").is_some()).await;
}

#[tokio::test]
async fn what_a_person_has_paused_or_retired_is_no_alarm() {
    let (place, seen) = (Place::new(), Seen::default());
    let app = run!(place, seen).role(Role::Emit).looking_each(LOOK).await.unwrap();
    app.pause("due").await.unwrap();
    app.emit(Due { number: 1.0 }).await.unwrap();
    app.retire("Due/keep").await.unwrap();
    // What is looked at in the same look, and neither paused nor retired.
    let said = red(&app, "running the deliveries of `Due/look`").await;
    assert_eq!(said.problems.len(), 1, "{said}");
}
