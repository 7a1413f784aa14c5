//! Counts are kept with each change, and say what a recount says.

use std::time::Duration;

use evented::store::{Letters, Outcome, Retention, Settlement};
use evented_tests::Place;

use super::{LONG, claim, dead, delivery, handler, number, open, ordered, push, run, settle};
use crate::store::{discard, record, requeue};

/// A number that looks random and is the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_are_what_a_recount_says_after_all_that_can_happen() {
    let place = Place::new();
    let pool = place.pool().await;
    let store = open(&place).await;
    record(&store, [handler("mail"), handler("stock")]).await;
    let mut dice = Dice(17);
    let mut held = Vec::new();
    for turn in 0..300 {
        match dice.roll(6) {
            0 | 1 => {
                let mut new = Vec::new();
                for _ in 0..dice.roll(70) {
                    let (key, number) = (dice.roll(400), usize::try_from(dice.roll(5)).unwrap());
                    let handler = if dice.roll(2) == 0 { "mail" } else { "stock" };
                    let plain = delivery(handler, &format!("order {key}"));
                    new.push(if dice.roll(3) == 0 { ordered(handler, &format!("{key}"), number) } else { plain });
                }
                push(&store, new).await;
            }
            2 => {
                let lease = if dice.roll(2) == 0 { LONG } else { Duration::from_millis(1) };
                held.extend(claim(&store, &["mail", "stock"], 20, lease).await);
            }
            3 | 4 => {
                let ends = held.drain(..held.len() / 2).map(|claimed| Settlement {
                    lease: claimed.lease,
                    outcome: match dice.roll(4) {
                        0 => Outcome::Completed,
                        1 => Outcome::Retry { delay: Duration::ZERO, error: "away".to_owned() },
                        2 => dead(),
                        _ => Outcome::Released,
                    },
                });
                let ends = ends.collect();
                settle(&store, ends).await;
            }
            _ => {
                if dice.roll(2) == 0 {
                    requeue(&store, Letters::Of("mail".to_owned())).await;
                } else {
                    discard(&store, Letters::Of("stock".to_owned())).await;
                }
            }
        }
        if turn % 100 == 50 {
            // What a person deletes is counted by the next sweep.
            run(&pool, "delete from evented_deliveries where seq % 7 = 0").await;
            crate::store::admin(&store).sweep(Retention { age: LONG, count: 1_000 }).await.unwrap();
        }
    }
    let wrong = "select count(*) from evented_handlers n
        where stored <> (select count(*) from evented_deliveries d where d.handler = n.num)
           or running <> (select count(*) from evented_deliveries d where d.handler = n.num and d.lease is not null)";
    assert_eq!(number(&pool, wrong).await, 0);
    let told: u64 = crate::store::admin(&store)
        .stats()
        .await
        .unwrap()
        .handlers
        .iter()
        .map(|count| count.waiting + count.running)
        .sum();
    let stored = number(&pool, "select count(*) from evented_deliveries").await;
    assert!(stored > 20, "some are left: {stored}");
    assert_eq!(told, stored.unsigned_abs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_a_person_deleted_has_its_deliveries_again_and_no_other_has_them() {
    let place = Place::new();
    let pool = place.pool().await;
    let store = open(&place).await;
    record(&store, [handler("mail"), handler("stock")]).await;
    let generation = store.catalogue.read().await.unwrap().generation;
    push(&store, vec![delivery("mail", "order 17")]).await;
    run(&pool, "delete from evented_handlers").await;
    assert_ne!(store.catalogue.read().await.unwrap().generation, generation, "who plans with them plans again");
    record(&store, [handler("stock")]).await;
    let claimed = claim(&store, &["stock", "mail"], 10, LONG).await;
    assert!(claimed.is_empty(), "another handler has it: {claimed:?}");
    record(&store, [handler("mail")]).await;
    assert_eq!(claim(&store, &["stock", "mail"], 10, LONG).await.len(), 1);
}
