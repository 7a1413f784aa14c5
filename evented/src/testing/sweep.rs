//! The promises of `sweep`: what is kept no longer, and what is.

use std::time::Duration;

use crate::{
    id::Key,
    store::{NewDelivery, Outcome, Retention, Store, UniqueKey},
    time,
};

use super::{
    Site,
    kit::{
        Answered, LONG, admin_of, claim_one, claims, dead, delayed, deliveries, delivery, eventually, has_passed, push,
        push_once, record, settle, stored, wanting,
    },
};

/// Makes dead letters, each with a number of attempts that no other has.
async fn bury(store: &Store, failed: std::ops::Range<u32>) {
    for failed in failed {
        push(store, [delivery("mail", &format!("letter {failed}"))]).await;
        let claimed = claim_one(store, "mail", LONG).await;
        assert!(settle(store, claimed.lease, dead(failed)).await);
    }
}

/// The attempts of the letters that are left, the newest first.
async fn left(store: &Store) -> Vec<u32> {
    let letters = admin_of(store).dead_letters(None, 100).await.answered();
    letters.into_iter().map(|letter| letter.attempts).collect()
}

/// Sweeps; answers how many letters it deleted.
async fn sweep(store: &Store, age: Duration, count: u64) -> u64 {
    let mut deleted = 0;
    loop {
        let swept = admin_of(store).sweep(Retention { age, count }).await.answered();
        deleted += swept.dead_letters;
        if !swept.more {
            return deleted;
        }
    }
}

pub async fn a_sweep_deletes_dead_letters_beyond_their_age(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    let age = Duration::from_millis(400);
    let began = time::now();
    bury(&store, 0..2).await;
    assert_eq!(sweep(&other, LONG, 100).await, 0);
    let mut deleted = 0;
    eventually("they are old enough", async || {
        deleted += sweep(&other, age, 100).await;
        deleted == 2
    })
    .await;
    has_passed(age, began);
    assert!(left(&store).await.is_empty());
    // Those that are younger than that stay.
    bury(&store, 2..4).await;
    assert_eq!((sweep(&other, LONG, 100).await, left(&store).await), (0, vec![3, 2]));
}

pub async fn a_sweep_keeps_the_newest_dead_letters(site: &impl Site) {
    let (store, other) = (site.open().await, site.open().await);
    record(&store, &["mail"]).await;
    bury(&store, 0..5).await;
    assert_eq!((sweep(&other, LONG, 5).await, left(&store).await), (0, vec![4, 3, 2, 1, 0]));
    assert_eq!((sweep(&other, LONG, 2).await, left(&store).await), (3, vec![4, 3]));
    assert_eq!((sweep(&other, LONG, 0).await, left(&store).await), (2, Vec::new()));
    // The longest and the most that can be said.
    bury(&store, 5..6).await;
    assert_eq!((sweep(&other, Duration::MAX, u64::MAX).await, left(&store).await), (0, vec![5]));
}

pub async fn a_sweep_takes_nothing_before_its_time(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    let unique = |key: &str| {
        let unique = UniqueKey { key: Key::derive("mail", "order 17"), within: LONG };
        NewDelivery { unique: Some(unique), ..delivery("mail", key) }
    };
    push(&store, [unique("the first of its key")]).await;
    push_once(&store, [delivery("mail", "pushed once")]).await;
    let mut running = Vec::new();
    for _ in 0..2 {
        running.extend(claims(&store, vec![wanting(1, &["mail"])], LONG).await.deliveries);
    }
    push(&store, deliveries("mail", 3)).await;
    push(&store, [delayed(LONG, delivery("mail", "later"))]).await;
    assert_eq!(sweep(&store, Duration::ZERO, 0).await, 0);
    assert_eq!(stored(&store, "mail").await, (4, 2), "deliveries are no letters");
    for claimed in running {
        assert!(settle(&store, claimed.lease, Outcome::Completed).await);
    }
    assert_eq!(sweep(&store, Duration::ZERO, 0).await, 0);
    // What was pushed once is remembered, and so is the key.
    push_once(&store, [delivery("mail", "pushed once")]).await;
    push(&store, [unique("the second of its key")]).await;
    assert_eq!(stored(&store, "mail").await, (4, 0));
}

pub async fn a_unique_key_whose_time_is_over_may_be_swept(site: &impl Site) {
    let store = site.open().await;
    record(&store, &["mail"]).await;
    let within = Duration::from_millis(300);
    let unique = |key: &str| {
        let unique = UniqueKey { key: Key::derive("mail", "order 17"), within };
        NewDelivery { unique: Some(unique), ..delivery("mail", key) }
    };
    let began = time::now();
    push(&store, [unique("the first of its key")]).await;
    let mut number = 0;
    eventually("another delivery of the key is stored", async || {
        number += 1;
        sweep(&store, LONG, 100).await;
        push(&store, [unique(&format!("another {number}"))]).await;
        stored(&store, "mail").await == (2, 0)
    })
    .await;
    has_passed(within, began);
}
