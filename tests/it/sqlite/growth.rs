//! What is remembered has a bound, and goes in steps that hold no lock for long.

use std::time::{Duration, Instant};

use evented::store::{Letters, ONCE_COUNT, Outcome, Push, Pushed, Retention, Settlement, StoreTime};
use evented_tests::{Place, eventually};

use super::{LONG, claim, dead, delivery, handler, number, open, ordered, push, push_of, run, settle};
use crate::store::record;

const KEEP: Retention = Retention { age: LONG, count: 1_000_000 };
/// The most that one step may change.
const STEP: u64 = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marks_are_forgotten_by_age_and_with_the_work() {
    let place = Place::new();
    let pool = place.pool().await;
    let store = open(&place).await;
    record(&store, [handler("mail")]).await;
    let new: Vec<_> = (0..100).map(|number| delivery("mail", &format!("order {number}"))).collect();
    let ids: Vec<_> = new.iter().map(|delivery| delivery.id).collect();
    assert_eq!(store.queue.push(push_of(&store, new).await.once()).await.unwrap(), Pushed::Stored(Vec::new()));
    let marks = "select count(*) from evented_once";
    assert_eq!(number(&pool, marks).await, 100);
    let finished = async |ids: Vec<_>| {
        let push = Push { finished: ids.into(), ..push_of(&store, Vec::new()).await };
        assert_eq!(store.queue.push(push).await.unwrap(), Pushed::Stored(Vec::new()));
    };
    finished(ids[..50].to_vec()).await;
    assert_eq!(number(&pool, marks).await, 100, "they are remembered for a while");
    let passes = async |time: Duration| {
        run(&pool, &format!("update evented_once set at = at - {}", time.as_millis())).await;
    };
    passes(Duration::from_mins(1)).await;
    // To say it again does not lengthen it.
    finished(ids[..50].to_vec()).await;
    passes(Duration::from_secs(61)).await;
    finished(ids[50..60].to_vec()).await;
    assert_eq!(number(&pool, marks).await, 80, "twice as many are deleted as are finished");
    while crate::store::admin(&store).sweep(KEEP).await.unwrap().more {}
    assert_eq!(number(&pool, marks).await, 50, "the others live for days");
    passes(Duration::from_hours(168)).await;
    while crate::store::admin(&store).sweep(KEEP).await.unwrap().more {}
    assert_eq!(number(&pool, marks).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_marks_than_are_remembered_go_before_their_time_and_are_told() {
    let place = Place::new();
    let pool = place.pool().await;
    let store = open(&place).await;
    record(&store, [handler("mail")]).await;
    let finished = delivery("mail", "a finished one");
    store.queue.push(push_of(&store, vec![finished.clone()]).await.once()).await.unwrap();
    let claimed = claim(&store, &["mail"], 1, LONG).await;
    settle(&store, vec![Settlement { lease: claimed[0].lease, outcome: Outcome::Completed }]).await;
    let finish = Push { finished: [finished.id].into(), ..push_of(&store, Vec::new()).await };
    store.queue.push(finish).await.unwrap();
    let now = store.queue.clock().await.unwrap().0;
    run(
        &pool,
        &format!(
            "with n(value) as (select 1 union all select value + 1 from n where value < {})
             insert into evented_once (id, at) select unhex(printf('%032x', value)), {now} - value from n",
            ONCE_COUNT + 1_500
        ),
    )
    .await;
    let mut early = 0;
    loop {
        let swept = crate::store::admin(&store).sweep(KEEP).await.unwrap();
        assert!(swept.forgotten_early <= STEP);
        early += swept.forgotten_early;
        if !swept.more {
            break;
        }
    }
    let marks = number(&pool, "select count(*) from evented_once").await.unsigned_abs();
    assert!(early >= 1_499 && marks <= ONCE_COUNT + 2, "{early} were told, {marks} are left");
    let oldest = format!(
        "select max(value) from (select {now} - min(at) as value from evented_once where at > {now} - 5000000)"
    );
    assert!(number(&pool, &oldest).await.unsigned_abs() <= ONCE_COUNT + 2, "the newest are left");
    // One that is finished is what a late push meets.
    store.queue.push(push_of(&store, vec![finished]).await.once()).await.unwrap();
    assert_eq!(number(&pool, "select stored from evented_handlers").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_of_other_stores_are_forgotten_soon_after_they_are_settled() {
    let place = Place::new();
    let pool = place.pool().await;
    let store = open(&place).await;
    let ids: Vec<_> = (0..100).map(|number| delivery("mail", &format!("order {number}")).id).collect();
    let now = store.queue.clock().await.unwrap().0;
    for id in &ids {
        let hex = id.to_string().replace('-', "");
        run(&pool, &format!("insert into evented_inbox values (x'{hex}', {now})")).await;
    }
    crate::store::outbox(&store).settled(ids[..50].to_vec()).await.unwrap();
    let passes = async |time: Duration| {
        run(&pool, &format!("update evented_inbox set at = at - {}", time.as_millis())).await;
    };
    let rows = "select count(*) from evented_inbox";
    passes(Duration::from_mins(9)).await;
    while crate::store::admin(&store).sweep(KEEP).await.unwrap().more {}
    assert_eq!(number(&pool, rows).await, 100);
    crate::store::outbox(&store).settled(ids[..50].to_vec()).await.unwrap();
    passes(Duration::from_mins(2)).await;
    crate::store::outbox(&store).settled(ids[50..60].to_vec()).await.unwrap();
    assert_eq!(number(&pool, rows).await, 80);
    while crate::store::admin(&store).sweep(KEEP).await.unwrap().more {}
    assert_eq!(number(&pool, rows).await, 50);
}

/// Between two steps others write, however much there is to do: it is counted, since a time says more of the machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_changes_few_and_leaves_the_file_to_others() {
    const COUNT: usize = 3_000;
    let place = Place::new();
    let pool = place.pool().await;
    let store = open(&place).await;
    record(&store, [handler("mail")]).await;
    push(&store, (0..COUNT).map(|number| delivery("mail", &format!("order {number}"))).collect()).await;
    let mut buried = 0;
    while buried < COUNT {
        let claimed = claim(&store, &["mail"], 500, LONG).await;
        buried += claimed.len();
        let ends = claimed.into_iter().map(|claimed| Settlement { lease: claimed.lease, outcome: dead() });
        settle(&store, ends.collect()).await;
    }
    let of_mail = || Letters::Of("mail".to_owned());
    let (mut requeued, mut longest) = (0, Duration::ZERO);
    loop {
        let began = Instant::now();
        let step = crate::store::admin(&store).requeue(of_mail(), StoreTime::MAX).await.unwrap();
        longest = longest.max(began.elapsed());
        assert!(step.count <= STEP, "{step:?}");
        requeued += step.count;
        if requeued >= 1_000 || !step.more {
            break;
        }
    }
    println!("the longest step took {longest:?}");
    let mut discarded = 0;
    loop {
        let step = crate::store::admin(&store).discard(of_mail(), StoreTime::MAX).await.unwrap();
        assert!(step.count <= STEP, "{step:?}");
        discarded += step.count;
        if !step.more {
            break;
        }
    }
    assert_eq!(requeued + discarded, COUNT as u64);
    assert_eq!(number(&pool, "select stored from evented_handlers").await.unsigned_abs(), requeued);
    // Large ones go in smaller steps.
    let large = |number: usize| evented::store::NewDelivery {
        payload: vec![7; 400_000].into(),
        ..delivery("mail", &format!("a large one {number}"))
    };
    run(&pool, "delete from evented_deliveries").await;
    push(&store, (0..10).map(large).collect()).await;
    let claimed = claim(&store, &["mail"], 500, LONG).await;
    settle(&store, claimed.into_iter().map(|it| Settlement { lease: it.lease, outcome: dead() }).collect()).await;
    let step = crate::store::admin(&store).requeue(of_mail(), StoreTime::MAX).await.unwrap();
    assert!(step.more && step.count <= 3, "{step:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_key_whose_first_delivery_a_person_deleted_goes_on() {
    let place = Place::new();
    let pool = place.pool().await;
    let store = open(&place).await;
    record(&store, [handler("mail")]).await;
    // Keys that are whole stand between, more than one sweep looks at.
    let of_key = |key: usize| [1, 2, 3].map(|turn| ordered("mail", &format!("order {key}"), turn));
    push(&store, (0..1_000).flat_map(of_key).collect()).await;
    run(&pool, "delete from evented_deliveries where seq in (1, 4)").await;
    let due = "select count(*) from evented_deliveries where due_at < 9223372036854775807";
    assert_eq!(number(&pool, due).await, 998);
    eventually("both keys go on", async || {
        crate::store::admin(&store).sweep(KEEP).await.unwrap();
        number(&pool, due).await == 1_000
    })
    .await;
    let firsts = "select count(*) from evented_deliveries where due_at < 9223372036854775807 and seq in (2, 5)";
    assert_eq!(number(&pool, firsts).await, 2, "the next of each, and no more");
}
