//! A relay's process is stopped with its push under way, and goes on when another relay has done all of the work.

use std::{fs, io, process::Stdio};

use evented::{
    App, Role,
    sqlx::{Connection, MySql, Pool, Postgres, Sqlite, SqliteConnection, query, sqlite::SqliteConnectOptions},
};
use evented_tests::{Place, Seen, eventually, proxy::Proxy};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    task::block_in_place,
};

use super::{
    EVENTS, KEYS,
    base::{Base, Queue},
    instance, judge, send, until_delivered, until_leased,
};

/// The first batch, one behind it, with which the other relay is past the first, and one for the stopped relay.
const ALL: u32 = EVENTS + 2 * KEYS;

/// Starts a process that only relays, and waits until it does.
async fn relayer(database: &str, queue: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relayer"));
    let mut process = command.args([database, queue]).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
    assert_eq!(said.next_line().await.unwrap().as_deref(), Some("ready"));
    process
}

fn signal(process: &Child, signal: Signal) {
    let pid = process.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?)).expect("it runs");
    kill_process(pid, signal).unwrap();
}

/// Stops a process, and waits until each of its threads stands still: on a busy machine some go on for a moment.
async fn stop(process: &Child) {
    signal(process, Signal::STOP);
    let tasks = format!("/proc/{}/task", process.id().expect("it runs"));
    let stands = |task: io::Result<fs::DirEntry>| {
        let Ok(stat) = task.and_then(|task| fs::read_to_string(task.path().join("stat"))) else { return true };
        // The state comes behind the name, which is in parentheses.
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    };
    eventually("all of the process stands still", async || fs::read_dir(&tasks).unwrap().all(stands)).await;
}

/// Lets the process go on, which is the only one that relays now, and has it relay some more: so it is past what it had in
/// hand. Then all is worked off, and judged.
async fn goes_on<Db: Base>(stopped: Child, emits: &App, pool: &Pool<Db>, queue: &str, seen: &Seen) {
    signal(&stopped, Signal::CONT);
    send(emits, pool, EVENTS + KEYS..ALL).await;
    eventually("the stopped relay relays again", async || Db::rows(pool).await == 0).await;
    let works = instance(pool, queue, seen).role(Role::Work).await.unwrap();
    until_delivered(pool, seen, ALL).await;
    works.until_idle().await.unwrap();
    works.stop().await;
    judge(seen, ALL);
}

/// The queue is a file: the relay waits for the file's lock with its rows in hand, and is stopped there.
async fn before_a_file<Db: Base>() {
    let (place, seen) = (Place::new(), Seen::default());
    let Some(database) = block_in_place(|| Db::database(&place)) else { return };
    let (pool, queue) = (Db::pool(&database).await, place.queue());
    let emits = instance(&pool, &queue, &seen).role(Role::Emit).await.unwrap();
    let stopped = relayer(&database, &queue).await;

    let options = SqliteConnectOptions::new().filename(place.path("evented.db"));
    let mut holder = SqliteConnection::connect_with(&options).await.unwrap();
    query("begin immediate").execute(&mut holder).await.unwrap();
    send(&emits, &pool, 0..EVENTS).await;
    until_leased(&pool, EVENTS).await;
    stop(&stopped).await;
    query("rollback").execute(&mut holder).await.unwrap();
    holder.close().await.unwrap();

    let other = instance(&pool, &queue, &seen).role(Role::Work).await.unwrap();
    until_delivered(&pool, &seen, EVENTS).await;
    send(&emits, &pool, EVENTS..EVENTS + KEYS).await;
    until_delivered(&pool, &seen, EVENTS + KEYS).await;
    other.stop().await;
    goes_on(stopped, &emits, &pool, &queue, &seen).await;
}

/// The queue is behind a network that is silent: the relay is stopped with its push on the way.
async fn before_a_network<Db: Base>(queue: Option<Queue>) {
    let (place, seen) = (Place::new(), Seen::default());
    let (Some(database), Some(queue)) = (block_in_place(|| Db::database(&place)), queue) else { return };
    let pool = Db::pool(&database).await;
    let mut proxy = Proxy::start(&queue.target).await;
    let emits = instance(&pool, &queue.url, &seen).role(Role::Emit).await.unwrap();
    let stopped = relayer(&database, &queue.behind(&proxy)).await;

    // It knows the queue's clock then, without which it takes nothing.
    send(&emits, &pool, 0..KEYS).await;
    eventually("the relay relays", async || Db::rows(&pool).await == 0).await;
    proxy.hang().await;
    send(&emits, &pool, KEYS..EVENTS).await;
    until_leased(&pool, EVENTS - KEYS).await;
    stop(&stopped).await;

    let other = instance(&pool, &queue.url, &seen).role(Role::Work).await.unwrap();
    until_delivered(&pool, &seen, EVENTS).await;
    send(&emits, &pool, EVENTS..EVENTS + KEYS).await;
    until_delivered(&pool, &seen, EVENTS + KEYS).await;
    other.stop().await;
    proxy.mend().await;
    goes_on(stopped, &emits, &pool, &queue.url, &seen).await;
}

macro_rules! pairs {
    ($($name:ident: $Db:ident;)+) => {$(
        mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_process_stopped_before_it_writes_the_file_stores_nothing_after_another_has_finished() {
                before_a_file::<$Db>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_process_stopped_with_its_push_on_the_way_to_redis_stores_nothing_after_another_has_finished() {
                before_a_network::<$Db>(block_in_place(Queue::redis)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_process_stopped_with_its_push_on_the_way_to_postgres_stores_nothing_after_another_has_finished() {
                before_a_network::<$Db>(block_in_place(Queue::postgres)).await;
            }
        }
    )+};
}

pairs! {
    from_sqlite: Sqlite;
    from_postgres: Postgres;
    from_mysql: MySql;
}
