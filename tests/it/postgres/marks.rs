//! What Postgres remembers of pushes that may be repeated, where it is more than it keeps.

use evented::store::{ONCE_COUNT, Push, Retention};
use evented_tests::servers::Postgres;

use super::{LEASE, claim_from, complete, delivery, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_marks_than_are_remembered_go_before_their_time_and_what_is_finished_stays() {
    let Some(server) = Postgres::shared() else { return };
    let url = server.database();
    let store = open(&url).await;
    let generation = store.catalogue.read().await.unwrap().generation;
    let finished = delivery("a finished one");
    let push = async || store.queue.push(Push::of(generation, [finished.clone()]).once()).await.unwrap();
    push().await;
    let claimed = claim_from(&store, 1).await.unwrap().deliveries.remove(0);
    assert!(complete(&store, &claimed).await);
    let finish = Push { finished: [finished.id].into(), ..Push::of(generation, []) };
    store.queue.push(finish).await.unwrap();
    let others = format!(
        "insert into evented_once (id, at) select decode(lpad(to_hex(n), 32, '0'), 'hex'), extract(epoch from now()) * 1000 - n
         from generate_series(1, {}) n",
        ONCE_COUNT + 1_500
    );
    server.ask(&url, &others).unwrap();
    let mut early = 0;
    loop {
        let swept = crate::store::admin(&store).sweep(Retention { age: LEASE, count: 10 }).await.unwrap();
        early += swept.forgotten_early;
        if !swept.more {
            break;
        }
    }
    assert_eq!(early, 1_500);
    let left = "select count(*), coalesce(sum((id = decode(lpad(to_hex(1000000), 32, '0'), 'hex'))::int), 0),
        coalesce(sum((id = decode(lpad(to_hex(1000001), 32, '0'), 'hex'))::int), 0) from evented_once";
    assert_eq!(server.ask(&url, left).unwrap().trim(), "1000001|1|0", "the newest are left, and the finished one");
    // It is what a late push meets.
    push().await;
    assert_eq!(crate::store::admin(&store).stats().await.unwrap().handlers[0].waiting, 0);
}
