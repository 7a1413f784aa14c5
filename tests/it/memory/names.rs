//! A store that is reached by two names is one store: what waits is counted once, and one worker works on it.

use std::{fs, os::unix::fs::symlink};

use evented::{App, ErrorKind, Outboxed, Role, sqlx::Pool};
use evented_tests::{
    Place, Seen, count_of, open_pool,
    servers::{Postgres, Redis},
};
use tokio::task::block_in_place;

use super::{Rang, number, old};

async fn instance<Db: Outboxed>(queue: &str, pool: &Pool<Db>, role: Role, seen: &Seen) -> evented::Result<App> {
    let run = evented::run().install(false).module(old::HERE).state(seen.clone()).role(role);
    run.queue(queue).outbox(pool.clone()).await
}

/// A queue by this name, and the outbox's pool: one store.
async fn is_one<Db: Outboxed>(queue: &str, pool: &Pool<Db>) {
    let seen = Seen::default();
    let emits = instance(queue, pool, Role::Emit, &seen).await.unwrap();
    emits.emit(Rang { number: number() }).await.unwrap();
    assert_eq!(count_of(&emits, "memory.hear").await.waiting, 1);
    emits.stop().await;
    let works = instance(queue, pool, Role::Work, &seen).await.unwrap();
    works.until_idle().await.unwrap();
    assert_eq!((seen.all().len(), count_of(&works, "memory.hear").await.done), (1, 1));
    works.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_reached_by_name_and_by_address_is_one_store() {
    let Some(postgres) = block_in_place(Postgres::shared) else { return };
    let url = block_in_place(|| postgres.database());
    let pool = Pool::<evented::sqlx::Postgres>::connect(&url).await.unwrap();
    is_one(&url.replace("127.0.0.1", "localhost"), &pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_reached_by_its_socket_and_by_address_is_one_store() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let socket = folder.path().display().to_string();
    let Some(postgres) = block_in_place(|| Postgres::start(&[("unix_socket_directories", &socket)])) else { return };
    let url = block_in_place(|| postgres.database());
    let pool = Pool::<evented::sqlx::Postgres>::connect(&url).await.unwrap();
    let name = url.rsplit('/').next().unwrap();
    is_one(&format!("postgres://postgres@localhost:{}/{name}?host={socket}", postgres.port()), &pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_reached_by_a_link_is_one_store() {
    let place = Place::new();
    let pool = open_pool(place.path("shop.db")).await;
    symlink(place.path("shop.db"), place.path("link.db")).unwrap();
    is_one(&format!("sqlite:{}", place.path("link.db").display()), &pool).await;
    let roundabout = place.path("folder");
    fs::create_dir(&roundabout).unwrap();
    let pool = open_pool(place.path("other.db")).await;
    is_one(&format!("sqlite:{}/../other.db", roundabout.display()), &pool).await;
}

/// SQLite itself corrupts a file that has two names, since its log is found by the name: it is one store, or refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_has_two_names_is_one_store_or_refused() {
    let place = Place::new();
    let pool = open_pool(place.path("shop.db")).await;
    fs::hard_link(place.path("shop.db"), place.path("hard.db")).unwrap();
    let queue = format!("sqlite:{}", place.path("hard.db").display());
    match instance(&queue, &pool, Role::Emit, &Seen::default()).await {
        Ok(emits) => {
            emits.emit(Rang { number: number() }).await.unwrap();
            assert_eq!(count_of(&emits, "memory.hear").await.waiting, 1);
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Boot);
            assert!(error.to_string().contains("hard.db") && error.to_string().contains("shop.db"), "{error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_call_one_redis_by_two_names_have_one_queue() {
    let Some(redis) = block_in_place(Redis::shared) else { return };
    let (place, seen, prefix) = (Place::new(), Seen::default(), redis.prefix());
    let url = format!("{}/0?prefix={prefix}", redis.url());
    let one = instance(&url, &place.pool().await, Role::Emit, &seen).await.unwrap();
    let by_name = url.replace("127.0.0.1", "localhost");
    let other = instance(&by_name, &place.pool().await, Role::Work, &seen).await.unwrap();
    let number = number();
    one.emit(Rang { number }).await.unwrap();
    other.until_idle().await.unwrap();
    assert_eq!(seen.all(), [format!("hear {number}")]);
}
