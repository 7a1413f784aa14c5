//! The promises of `wait`.

use std::time::Duration;

use crate::{store::Store, time};

use super::{
    Site,
    kit::{CLOCKS, DEADLINE, delivery, push, record},
};

/// So long that a test which waits for it has failed.
const MOST: Duration = Duration::from_mins(10);

/// Waits until the store has been quiet for a while; answers its mark. A wait may end without a change, so a test that
/// expects one to end begins where none does.
pub async fn quiet(store: &Store) -> u64 {
    let waiting = async {
        let mut seen = store.queue.wait(0, Duration::ZERO).await;
        loop {
            let mark = store.queue.wait(seen, Duration::from_millis(500)).await;
            if mark == seen {
                return mark;
            }
            seen = mark;
        }
    };
    time::within(DEADLINE, waiting).await.expect("a store that nobody writes to is quiet in the end")
}

pub async fn ends_at_once(store: &Store, seen: u64) -> u64 {
    let mark = time::within(DEADLINE, store.queue.wait(seen, MOST)).await.expect("the change ends the wait");
    assert_ne!(mark, seen, "the mark tells that something changed");
    mark
}

pub async fn no_change_is_missed_between_two_waits(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    for number in 0..3 {
        let seen = quiet(&store).await;
        // Nobody waits now.
        push(&store, [delivery("mail", &format!("order {number}"))]).await;
        ends_at_once(&store, seen).await;
        // Whoever has not seen it yet is told as well.
        ends_at_once(&store, seen).await;
    }
}

async fn a_push_ends_a_wait(waiting: Store, pushing: &Store) {
    record(pushing, &["mail"]).await;
    let seen = quiet(&waiting).await;
    let began = time::now();
    let wait = tokio::spawn(async move { ends_at_once(&waiting, seen).await });
    // Whether the wait has begun by then does not matter: no change is missed.
    tokio::task::yield_now().await;
    push(pushing, [delivery("mail", "order 17")]).await;
    wait.await.expect("the wait ends");
    assert!(began.elapsed() < DEADLINE);
}

pub async fn a_change_during_a_wait_ends_it(site: &impl Site) {
    let store = site.open().await;
    a_push_ends_a_wait(store.clone(), &store).await;
}

pub async fn a_change_by_another_process_ends_a_wait(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    a_push_ends_a_wait(store.clone(), &other).await;
    // And one that came between two waits.
    let seen = quiet(&store).await;
    push(&other, [delivery("mail", "order 18")]).await;
    ends_at_once(&store, seen).await;
}

pub async fn a_wait_ends_after_most(site: &impl Site) {
    let store = site.open().await;
    let seen = quiet(&store).await;
    let most = Duration::from_millis(200);
    let began = time::now();
    let mark = time::within(DEADLINE, store.queue.wait(seen, most)).await.expect("it ends by itself");
    assert_eq!(mark, seen, "nothing has changed");
    assert!(began.elapsed() + CLOCKS >= most, "it waited");
    let mark = time::within(DEADLINE, store.queue.wait(seen, Duration::ZERO)).await.expect("it does not wait at all");
    assert_eq!(mark, seen);
}
