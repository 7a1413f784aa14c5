//! Times beyond all measure: the longest duration wherever one is taken, and clocks far from today.

use std::time::{Duration, SystemTime};

use evented::{
    ErrorKind, Policy, Terms,
    by_hand::{HandlerDef, StoredCall},
    prelude::*,
};
use evented_tests::{Place, Seen, count_of, eventually};
use serde::{Deserialize, Serialize};

const FOR_EVER: Duration = Duration::MAX;

#[event]
#[derive(Serialize, Deserialize)]
struct Waited {
    how: String,
}

async fn wait(event: &Waited, seen: State<Seen>, delivery: Delivery) -> Result<(), RetryAfter> {
    let left = delivery.time_left() > Duration::from_hours(24 * 365);
    seen.note(format!("{} {left}", event.how));
    match &*event.how {
        "again" => Err(RetryAfter::new(FOR_EVER, "not in this life")),
        _ => Ok(()),
    }
}

/// What an attribute's words cannot say, a hand can.
const ENDLESS: Policy = Policy::DEFAULT.timeout(FOR_EVER).backoff(FOR_EVER, FOR_EVER);

evented::register!(
    HandlerDef::background::<Waited>(
        "wait",
        &StoredCall::Async(|event, context| {
            let (seen, delivery) = (context.state(), context.delivery().cloned());
            let delivery = delivery.expect("a stored handler has a delivery");
            Box::pin(async move { Ok(wait(event.borrow(), seen?, delivery).await?) })
        }),
    )
    .policy(ENDLESS)
    .terms(Terms::DEFAULT.unique("how", FOR_EVER))
);

#[event]
#[derive(Serialize, Deserialize)]
struct Failed;

evented::register!(
    HandlerDef::background::<Failed>("fail", &StoredCall::Async(|_, _| Box::pin(async { Err("never again".into()) })),)
        .policy(Policy::DEFAULT.backoff(Duration::from_millis(u64::MAX), Duration::from_millis(u64::MAX)))
);

#[event(transactional)]
#[derive(Serialize, Deserialize)]
struct Enlisted;

evented::register!(
    HandlerDef::outbox::<Enlisted>(
        "book",
        &StoredCall::Async(|_, context| {
            let seen = context.state::<Seen>();
            Box::pin(async move {
                seen?.note("enlisted");
                Ok(())
            })
        }),
    )
    .policy(ENDLESS)
);

async fn on(queue: String, place: &Place) {
    let seen = Seen::default();
    let pool = place.pool().await;
    let run = evented::run().install(false).module(module_path!()).queue(queue).state(seen.clone());
    let run = run.outbox(pool.clone()).grace(FOR_EVER).keep_dead_letters(FOR_EVER, 100);
    let app = run.await.unwrap();
    let waited = |how: &str| Waited { how: how.to_owned() };
    app.emit(waited("now")).await.unwrap();
    app.emit(waited("past")).at(SystemTime::UNIX_EPOCH - Duration::from_hours(24 * 365 * 300)).await.unwrap();
    app.emit(waited("later")).after(FOR_EVER).await.unwrap();
    app.emit(waited("much later")).at(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60)).await.unwrap();
    app.emit(waited("again")).await.unwrap();
    // The unique key is held for as long as can be.
    app.emit(waited("now")).await.unwrap();
    app.emit(Failed).await.unwrap();
    let mut tx = evented::begin(&pool).await.unwrap();
    app.emit_in(&mut tx, Enlisted).await.unwrap();
    app.emit_in(&mut tx, Enlisted).after(FOR_EVER).await.unwrap();
    tx.commit().await.unwrap();
    eventually("what is due has run", async || {
        let retried = count_of(&app, "Waited/wait").await.retried + count_of(&app, "Failed/fail").await.retried;
        count_of(&app, "Waited/wait").await.done >= 2 && retried == 2 && count_of(&app, "Enlisted/book").await.done == 1
    })
    .await;
    let letters = app.dead_letters().await.unwrap();
    assert!(letters.is_empty(), "{letters:?}");
    let mut all = seen.all();
    all.sort();
    assert_eq!(all, ["again true", "enlisted", "now true", "past true"]);
    assert_eq!(count_of(&app, "Waited/wait").await.waiting, 3);
    assert!(app.health().problems.is_empty(), "{:?}", app.health());
    app.stop().await;
}

#[tokio::test]
async fn the_longest_duration_is_long_and_no_overflow_on_sqlite() {
    let place = Place::new();
    on(place.queue(), &place).await;
}

#[tokio::test]
async fn the_longest_duration_is_long_and_no_overflow_on_postgres() {
    let Some(server) = evented_tests::servers::Postgres::start(&[]) else { return };
    on(server.database(), &Place::new()).await;
}

#[tokio::test]
async fn the_longest_duration_is_long_and_no_overflow_on_redis() {
    let Some(server) = evented_tests::servers::Redis::start(&[]) else { return };
    on(server.url(), &Place::new()).await;
}

mod beyond_memory {
    use evented::sqlx::query;

    use super::*;

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Heaved;

    #[handler(Heaved, background)]
    async fn weigh(_event: Heaved, tx: &mut Tx<Sqlite>) -> Result<(), evented::sqlx::Error> {
        query("insert into ledger values (1)").execute(&mut **tx).await.map(drop)
    }

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    struct Rowed;

    #[handler(Rowed, background)]
    async fn ship(_event: Rowed, tx: &mut Tx<Sqlite>) -> Result<(), evented::sqlx::Error> {
        query("insert into ledger values (2)").execute(&mut **tx).await.map(drop)
    }

    const MONTH: Duration = Duration::from_hours(24 * 30);

    #[tokio::test]
    async fn a_delay_longer_than_its_database_remembers_is_refused_where_it_would_end_as_a_dead_letter() {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        let app = run!(place, seen).outbox(pool.clone()).await.unwrap();
        let error = app.emit(Heaved).after(MONTH).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unstorable);
        assert!(error.to_string().contains("`Heaved/weigh`"), "{error}");
        app.emit(Heaved).after(MONTH / 2).await.unwrap();
        let mut tx = evented::begin(&pool).await.unwrap();
        let error = app.emit_in(&mut tx, Rowed).after(MONTH).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unstorable);
        assert!(error.to_string().contains("`Rowed/ship`"), "{error}");
        app.emit_in(&mut tx, Rowed).after(MONTH / 2).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(count_of(&app, "Heaved/weigh").await.waiting, 1);
    }

    /// Beside its data a delivery is its own memory.
    #[tokio::test]
    async fn where_queue_and_outbox_are_one_database_any_delay_is_taken() {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        let queue = format!("sqlite:{}", place.path("shop.db").display());
        let run = evented::run().install(false).module(module_path!()).queue(queue).state(seen.clone());
        let app = run.outbox(pool.clone()).await.unwrap();
        app.emit(Heaved).after(MONTH * 2).await.unwrap();
        assert_eq!(count_of(&app, "Heaved/weigh").await.waiting, 1);
    }
}
