//! The tables, and how an older release's tables become this one's.
//!
//! A migration expands; what it makes unneeded is dropped a release later. So a process of the release before goes on
//! beside this one: it refuses only a schema whose `min_compatible` is newer than its own version.

use sqlx::{Connection, SqliteConnection, query, query_as};

use crate::error::{StoreError, Written};

use super::writer::read_failed;

/// The schema that this code writes.
const VERSION: i64 = 2;
/// The oldest code that may go on with it.
const MIN_COMPATIBLE: i64 = 2;

/// Each entry takes the schema from its index to the next version.
const MIGRATIONS: &[&[&str]] = &[FIRST, KEYS];

const FIRST: &[&str] = &[
    // Handlers of every process, by a small number that keeps deliveries narrow.
    "create table evented_handlers (
        num              integer primary key,
        id               text not null unique,
        event            text not null,
        route            text not null,
        queue            text not null,
        attempts_max     integer not null,
        backoff_first_ms integer not null,
        backoff_max_ms   integer,
        timeout_ms       integer not null,
        aliases          text not null,
        event_aliases    text not null,
        retired          integer not null default 0,
        done             integer not null default 0,
        retried          integer not null default 0,
        dead             integer not null default 0
    ) strict",
    // `due_at` is when a delivery may be claimed: its time, its retry, or the end of its lease. So one index finds what
    // is due, a lease that ends needs nobody to notice, and a claim is one update. `lease` is the fencing token while
    // leased. `alone`: 1 where it outlived a lease and is to run alone, 2 while it does. `backoff_max_ms` is null for a fixed backoff, `correlation`,
    // the bytes of an `Origin`, where nothing led to the event.
    "create table evented_deliveries (
        seq              integer primary key autoincrement,
        id               blob not null,
        event_id         blob not null,
        handler          integer not null,
        due_at           integer not null,
        lease            integer,
        failed           integer not null default 0,
        alone            integer not null default 0,
        deaths           integer not null default 0,
        attempts_max     integer not null,
        backoff_first_ms integer not null,
        backoff_max_ms   integer,
        timeout_ms       integer not null,
        version          integer not null,
        emitted_at       integer not null,
        correlation      blob,
        error            text,
        payload          blob not null
    ) strict",
    "create unique index evented_deliveries_id on evented_deliveries (id)",
    "create index evented_deliveries_due on evented_deliveries (handler, due_at)",
    // Deliveries whose push may be repeated, so that the repetition stores nothing even after they are settled.
    "create table evented_once (
        id blob not null primary key,
        at integer not null
    ) strict, without rowid",
    "create index evented_once_at on evented_once (at)",
    "create table evented_dead_letters (
        seq              integer primary key,
        id               blob not null,
        event_id         blob not null,
        handler          integer not null,
        failed           integer not null,
        deaths           integer not null,
        attempts_max     integer not null,
        backoff_first_ms integer not null,
        backoff_max_ms   integer,
        timeout_ms       integer not null,
        version          integer not null,
        emitted_at       integer not null,
        died_at          integer not null,
        correlation      blob,
        error            text not null,
        payload          blob not null
    ) strict",
    // Emitted transactional events, until the relay turned them into deliveries.
    "create table evented_outbox (
        seq         integer primary key,
        event_id    blob not null,
        event       text not null,
        due_at      integer not null,
        lease       integer,
        version     integer not null,
        emitted_at  integer not null,
        correlation blob,
        payload     blob not null
    ) strict",
    // With the event's name: one id, chosen by the caller, may stand for two events of two types.
    "create unique index evented_outbox_event on evented_outbox (event_id, event)",
    "create index evented_outbox_due on evented_outbox (due_at)",
];

/// Order keys, unique keys and paused queues. Code of schema 1 would end an ordered delivery without letting the next of its
/// key go, so it must not go on beside this.
const KEYS: &[&str] = &[
    "alter table evented_handlers add column unique_key text",
    "alter table evented_handlers add column unique_ms integer",
    "alter table evented_handlers add column ordered_by text",
    // A delivery that waits for another of its order key has the `due_at` of never, and `own_due_at` for its turn. The other
    // is the one of the key with the lowest `seq`.
    "alter table evented_deliveries add column order_key blob",
    "alter table evented_deliveries add column own_due_at integer",
    "create index evented_deliveries_order on evented_deliveries (order_key, seq) where order_key is not null",
    "alter table evented_dead_letters add column order_key blob",
    "create index evented_dead_letters_id on evented_dead_letters (id)",
    "create index evented_dead_letters_handler on evented_dead_letters (handler, seq)",
    // The delivery that stands for the others of its unique key, until then.
    "create table evented_unique (
        key      blob not null primary key,
        delivery blob not null,
        until    integer not null
    ) strict, without rowid",
    "create index evented_unique_until on evented_unique (until)",
    "create table evented_queues (
        name   text not null primary key,
        paused integer not null
    ) strict, without rowid",
    // Deliveries of another store that ran to their end in a transaction of this file.
    "create table evented_inbox (
        delivery blob not null primary key,
        at       integer not null
    ) strict, without rowid",
    "create index evented_inbox_at on evented_inbox (at)",
];

/// Brings the tables to this release's version, or says why it cannot.
pub(super) async fn migrate(conn: &mut SqliteConnection, name: &str) -> Result<(), StoreError> {
    let failed = |error: sqlx::Error| read_failed("could not prepare evented's tables", &error).because(error);
    // Most starts find the tables as they should be, and need no lock for that.
    let found = query_as("select version, min_compatible from evented_schema").fetch_optional(&mut *conn).await;
    if matches!(found, Ok(Some((VERSION.., ..=VERSION)))) {
        return Ok(());
    }
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    query(
        "create table if not exists evented_schema (
            version integer not null, min_compatible integer not null, catalogue integer not null
        ) strict",
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    let found: Option<(i64, i64)> = query_as("select version, min_compatible from evented_schema")
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed)?;
    let (version, min_compatible) = found.unwrap_or_default();
    if min_compatible > VERSION {
        return Err(StoreError::lasting(
            format!(
                "evented's tables in {name} are of schema {version}, which needs code of schema {min_compatible} or \
                 newer; this release writes schema {VERSION}: update evented in this process"
            ),
            Written::Nothing,
        ));
    }
    if version < VERSION {
        let done = usize::try_from(version).unwrap_or(0);
        for migration in &MIGRATIONS[done..] {
            for sql in *migration {
                query(*sql).execute(&mut *tx).await.map_err(failed)?;
            }
        }
        let sql = if found.is_some() {
            "update evented_schema set version = ?, min_compatible = ?"
        } else {
            "insert into evented_schema (version, min_compatible, catalogue) values (?, ?, 1)"
        };
        query(sql).bind(VERSION).bind(MIN_COMPATIBLE).execute(&mut *tx).await.map_err(failed)?;
    }
    tx.commit().await.map_err(failed)
}
