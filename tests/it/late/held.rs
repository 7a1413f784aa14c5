//! The network holds a push back, or its answer, until another relay has done all of the work.

use evented::{
    Role,
    sqlx::{MySql, Postgres, Sqlite},
};
use evented_tests::{Place, Seen, eventually, proxy::Proxy};
use tokio::{runtime::Runtime, task::block_in_place};

use super::{
    EVENTS, KEYS,
    base::{Base, Queue},
    instance, judge, send, until_delivered, until_leased,
};

/// What is relayed before anything happens.
const WARM: u32 = KEYS;
/// That, the batch that is held, one behind it, and one behind what arrived late.
const ALL: u32 = WARM + EVENTS + 2 * KEYS;

/// What happens to the first relay's push.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// Its bytes arrive after the other relay has finished.
    Late,
    /// The same, and its process is dead by then.
    Orphaned,
    /// It arrives; the answer is held back until the other relay has finished, and what was repeated meanwhile arrives too.
    Unanswered,
}

async fn happens_once<Db: Base>(queue: Option<Queue>, fate: Fate) {
    let (place, seen) = (Place::new(), Seen::default());
    let (Some(database), Some(queue)) = (block_in_place(|| Db::database(&place)), queue) else { return };
    let pool = Db::pool(&database).await;
    let mut proxy = Proxy::start(&queue.target).await;
    let emits = instance(&pool, &queue.url, &seen).role(Role::Emit).await.unwrap();

    // The first relay lives in a runtime of its own, with which it dies.
    let process = Runtime::new().unwrap();
    let relays =
        instance(&Db::pool(&database).await, &queue.behind(&proxy), &seen).role(Role::Work).queues(["late-relays"]);
    let first = process.spawn(async move { relays.await.unwrap() }).await.unwrap();
    // It has pushed once, so that its connection is there, and a request of it is on its way at once.
    send(&emits, &pool, 0..WARM).await;
    eventually("the first relay relays", async || Db::rows(&pool).await == 0).await;
    if fate == Fate::Unanswered {
        proxy.hold_answers().await;
    } else {
        proxy.hang().await;
    }
    send(&emits, &pool, WARM..WARM + EVENTS).await;
    until_leased(&pool, EVENTS).await;

    // It can take the rows when their lease has ended.
    let other = instance(&pool, &queue.url, &seen).role(Role::Work).await.unwrap();
    until_delivered(&pool, &seen, WARM + EVENTS).await;
    // A relay does one batch after the other: behind this one it is past all that it does about the first.
    send(&emits, &pool, WARM + EVENTS..ALL - KEYS).await;
    until_delivered(&pool, &seen, ALL - KEYS).await;

    if fate == Fate::Orphaned {
        drop(first);
        process.shutdown_background();
        proxy.mend().await;
        // Connections stand in line at the proxy: what is held goes on before this instance is ready.
        let after = instance(&pool, &queue.behind(&proxy), &seen).role(Role::Emit).await.unwrap();
        after.stop().await;
    } else {
        proxy.mend().await;
        eventually("the first relay is well again", async || first.health().is_ok()).await;
        first.stop().await;
        block_in_place(|| drop(process));
    }
    // One more event, which is behind whatever has arrived, and then what has arrived.
    send(&emits, &pool, ALL - KEYS..ALL).await;
    until_delivered(&pool, &seen, ALL).await;
    other.until_idle().await.unwrap();
    other.stop().await;
    judge(&seen, ALL);
}

macro_rules! pairs {
    ($($name:ident: $Db:ident, $queue:ident;)+) => {$(
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_push_that_was_held_up_stores_nothing_after_another_relay_has_finished() {
                happens_once::<$Db>(block_in_place(Queue::$queue), Fate::Late).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_push_of_a_dead_process_stores_nothing_after_another_relay_has_finished() {
                happens_once::<$Db>(block_in_place(Queue::$queue), Fate::Orphaned).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_push_whose_answer_was_lost_stores_once_however_often_it_is_repeated() {
                happens_once::<$Db>(block_in_place(Queue::$queue), Fate::Unanswered).await;
            }
        }
    )+};
}

pairs! {
    from_sqlite_to_redis: Sqlite, redis;
    from_postgres_to_redis: Postgres, redis;
    from_mysql_to_redis: MySql, redis;
    from_sqlite_to_postgres: Sqlite, postgres;
    from_postgres_to_postgres: Postgres, postgres;
    from_mysql_to_postgres: MySql, postgres;
}
