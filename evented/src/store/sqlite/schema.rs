//! The tables, and how an older release's tables become this one's.
//!
//! A migration expands; what it makes unneeded is dropped a release later. So a process of the release before goes on
//! beside this one: it refuses only a schema whose `min_compatible` is newer than its own version.

use std::path::Path;

use sqlx::{Connection, Error as SqlxError, SqliteConnection, query, query_as, query_scalar};

use crate::{
    error::{StoreError, Written},
    id::{new_generation, new_store_name},
};

use super::writer::read_failed;

/// The schema that this code writes.
const VERSION: i64 = 4;
/// The oldest code that may go on with it.
const MIN_COMPATIBLE: i64 = 3;

/// Each entry takes the schema from its index to the next version.
const MIGRATIONS: &[&[&str]] = &[FIRST, KEYS, MEMORY, SESSIONS];

/// The one row that says what the tables are: their version, the catalogue's generation, the store's name, and the queue that
/// an outbox feeds.
const SCHEMA: &str = "create table if not exists evented_schema (
        version integer not null, min_compatible integer not null, catalogue integer not null,
        identity text, feeds text
    ) strict";
const SCHEMA_MEMORY: [&str; 2] =
    ["alter table evented_schema add column identity text", "alter table evented_schema add column feeds text"];

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
    // leased. `alone` is of an earlier release. `backoff_max_ms` is null for a fixed backoff, `correlation`,
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

/// What a store remembers of itself and of its outbox. Code of schema 2 would take outbox rows that wait for their turn, push to the
/// wrong queue, and bring retired handlers back, so it must not go on beside this.
const MEMORY: &[&str] = &[
    "alter table evented_handlers add column retired_at integer",
    // Counted in the commit of the change. What a dead worker held stays counted as running until it is claimed again and ends.
    "alter table evented_handlers add column stored integer not null default 0",
    "alter table evented_handlers add column running integer not null default 0",
    "update evented_handlers set
        stored = (select count(*) from evented_deliveries d where d.handler = num),
        running = (select count(*) from evented_deliveries d where d.handler = num and d.lease is not null)",
    // Who has planned for a handler that a person deleted must plan again.
    "create trigger evented_handlers_gone after delete on evented_handlers begin
        update evented_schema set catalogue = 1 + abs(random() % 9223372036854775806);
     end",
    // What goes elsewhere of a row goes to this queue and, in JSON, to these handlers, from its first turn on; what stands in
    // its way.
    "alter table evented_outbox add column target text",
    "alter table evented_outbox add column handlers text",
    "alter table evented_outbox add column error text",
    "drop index evented_outbox_due",
    "create index evented_outbox_new on evented_outbox (due_at) where target is null",
    "create index evented_outbox_order on evented_outbox (seq) where target is null",
    "create index evented_outbox_taken on evented_outbox (target, due_at) where target is not null",
    // The order keys of what goes elsewhere of a row. A row that waits for another of its key and target has the lease 0 and the
    // `due_at` of never.
    "create table evented_outbox_keys (
        key    blob not null,
        target text not null,
        seq    integer not null,
        primary key (key, target, seq)
    ) strict, without rowid",
    "create index evented_outbox_keys_seq on evented_outbox_keys (seq)",
    // The end of a row, also by hand, lets the next ones of its key go: more than one, so that they go on together.
    "create trigger evented_outbox_gone after delete on evented_outbox when old.target is not null begin
        update evented_outbox set lease = null, due_at = emitted_at
        where lease = 0 and seq in (
            select n.seq from evented_outbox_keys k
            join evented_outbox_keys n on n.key = k.key and n.target = k.target and n.seq > k.seq
            where k.seq = old.seq order by n.seq limit 32);
        delete from evented_outbox_keys where seq = old.seq;
     end",
    "create index evented_dead_letters_died on evented_dead_letters (died_at)",
    "create index evented_dead_letters_age on evented_dead_letters (handler, died_at)",
];

/// Who holds a lease, and what is held against deliveries whose holders died. Code of schema 3 may go on: what it claims names
/// nobody, and so nobody dies of it.
const SESSIONS: &[&str] = &[
    "create table evented_sessions (
        id       integer primary key,
        until    integer not null,
        lease_ms integer not null
    ) strict",
    "create index evented_sessions_until on evented_sessions (until)",
    // The session that leases it. `suspect`: 1 where it is exposed, 2 where it is tried singly. One that waits as a suspect has
    // a `due_at` of its own, just before never, so that the index on it finds the suspects of a handler, and no claim does.
    // `died_with` is the session that died with it last; `pending`: 1 where that was while it was tried.
    "alter table evented_deliveries add column session integer",
    "alter table evented_deliveries add column suspect integer not null default 0",
    "alter table evented_deliveries add column died_with integer",
    "alter table evented_deliveries add column charges integer not null default 0",
    "alter table evented_deliveries add column pending integer not null default 0",
    "create index evented_deliveries_died on evented_deliveries (died_with) where died_with is not null",
    "update evented_deliveries set deaths = 0, alone = 0 where deaths <> 0 or alone <> 0",
];

/// Brings the tables to this release's version, or says why it cannot. Answers the store's name, which is `known` where there
/// was none.
pub(super) async fn migrate(
    conn: &mut SqliteConnection,
    file: &str,
    known: Option<&str>,
) -> Result<String, StoreError> {
    let failed = |error: SqlxError| match error {
        SqlxError::Configuration(text) => StoreError::lasting(text.to_string(), Written::Nothing),
        error => read_failed("could not prepare evented's tables", &error).because(error),
    };
    let encoding: String = query_scalar("pragma encoding").fetch_one(&mut *conn).await.map_err(failed)?;
    if encoding != "UTF-8" {
        let text = format!(
            "{file} keeps text as {encoding}, and evented reads and writes UTF-8 alone; copy it into a file that was made with \
             `pragma encoding = 'UTF-8'`, or name another"
        );
        return Err(failed(SqlxError::Configuration(text.into())));
    }
    // Most starts find the tables as they should be, and need no lock for that.
    let found = query_as("select version, min_compatible, identity from evented_schema").fetch_optional(&mut *conn);
    if let Ok(Some((VERSION.., ..=VERSION, Some(name)))) = found.await {
        return Ok(name);
    }
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let name = make_whole(&mut tx, file, known).await.map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(name)
}

/// The same inside a transaction that writes: also makes rows of ours again that are missing.
pub(super) async fn make_whole(
    conn: &mut SqliteConnection,
    file: &str,
    known: Option<&str>,
) -> Result<String, SqlxError> {
    query(SCHEMA).execute(&mut *conn).await?;
    if !columns(conn, "evented_schema").await?.iter().any(|column| column == "identity") {
        for sql in SCHEMA_MEMORY {
            query(sql).execute(&mut *conn).await?;
        }
    }
    let sql = "select version, min_compatible, identity from evented_schema";
    let found: Option<(i64, i64, Option<String>)> = query_as(sql).fetch_optional(&mut *conn).await?;
    let is_there = found.is_some();
    let (version, min_compatible, name) = match found {
        Some(found) => found,
        None => (version_of(conn).await?, 0, None),
    };
    if min_compatible > VERSION {
        let text = format!(
            "evented's tables in {file} are of schema {version}, which needs code of schema {min_compatible} or newer; this \
             release writes schema {VERSION}: update evented in this process"
        );
        return Err(SqlxError::Configuration(text.into()));
    }
    for migration in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0)) {
        for sql in *migration {
            query(*sql).execute(&mut *conn).await?;
        }
    }
    if !is_there && version > 0 {
        tracing::warn!(
            store = file,
            "evented's own rows were deleted from its tables; they are made again, and handlers recorded again"
        );
    }
    let name = name.or_else(|| known.map(str::to_owned)).unwrap_or_else(|| new_name(file));
    let sql = match (is_there, version < VERSION) {
        (false, _) => "insert into evented_schema (version, min_compatible, identity, catalogue) values (?, ?, ?, ?)",
        (true, true) => "update evented_schema set version = ?, min_compatible = ?, identity = ?, catalogue = ?",
        (true, false) => "update evented_schema set identity = ?3",
    };
    query(sql)
        .bind(VERSION.max(version))
        .bind(MIN_COMPATIBLE.max(min_compatible))
        .bind(&name)
        .bind(new_generation().cast_signed())
        .execute(conn)
        .await?;
    Ok(name)
}

/// A random name that a person recognises: with what the file was called when its tables were made.
fn new_name(file: &str) -> String {
    let called = Path::new(file).file_name().unwrap_or_default();
    format!("{}:{}", called.display(), new_store_name())
}

/// The version of tables that do not say theirs.
async fn version_of(conn: &mut SqliteConnection) -> Result<i64, SqlxError> {
    let columns = columns(conn, "evented_handlers").await?;
    let columns_of_sessions = self::columns(conn, "evented_sessions").await?;
    let has = |name: &str| columns.iter().any(|column| column == name);
    Ok(match () {
        () if !columns_of_sessions.is_empty() => 4,
        () if has("running") => 3,
        () if has("unique_key") => 2,
        () if has("id") => 1,
        () => 0,
    })
}

async fn columns(conn: &mut SqliteConnection, table: &str) -> Result<Vec<String>, SqlxError> {
    query_scalar("select name from pragma_table_info(?)").bind(table).fetch_all(conn).await
}
