//! The tables, and how an older release's tables become this one's.
//!
//! A migration expands; what it makes unneeded is dropped a release later. So a process of the release before goes on
//! beside this one: it refuses only a schema whose `min_compatible` is newer than its own version. A statement that makes a
//! table commits by itself here: each step can be repeated, and the version is written after the last.

use std::time::Duration;

use sqlx::{Error as SqlxError, Executor as _, MySqlConnection, Row as _, mysql::MySqlConnectOptions};

use crate::{
    error::{StoreError, Written},
    id::{new_generation, new_store_name},
    time,
};

use super::{
    counts,
    identity::{self, Met},
    link::{NO_SUCH_TABLE, code, failed, open, sql},
};

/// The schema that this code writes.
const VERSION: i64 = 3;
/// The oldest code that may go on with it. Schema 1 knows no target: its relay would store again what stays of a row that
/// waits for its queue, and it does not count what is stored. Schema 2 may go on: what it claims it claims in nobody's name.
const MIN_COMPATIBLE: i64 = 2;
/// How long a migration may take, others' before it included.
const MIGRATION: Duration = Duration::from_mins(5);

/// The longest id of a handler or an event, in characters: what an index takes.
pub(super) const ID_MAX: usize = 700;

/// How every table is made: ids are compared byte by byte.
macro_rules! table {
    ($($part:literal)+) => {
        concat!("create table if not exists ", $($part,)+ " engine = InnoDB, default charset = utf8mb4, collate = utf8mb4_bin")
    };
}

/// Each entry takes the schema from its index to the next version.
const MIGRATIONS: &[&[&str]] = &[FIRST, SECOND, THIRD];

const FIRST: &[&str] = &[
    // One row, of version, and which catalogue it is.
    table!(
        "evented_schema (
        id             int not null primary key,
        version        bigint not null,
        min_compatible bigint not null,
        catalogue      bigint not null
    )"
    ),
    // One row: which database this is, told apart from others that have these tables. By itself, since each `emit_in` reads
    // it, which in a transaction of the default isolation locks the row against changes.
    table!(
        "evented_identity (
        id       int not null primary key,
        identity varchar(36) not null
    )"
    ),
    // Handlers of every process, by a small number that keeps deliveries narrow.
    table!(
        "evented_handlers (
        num              int not null auto_increment primary key,
        id               varchar(700) not null,
        event            text not null,
        route            text not null,
        queue            text not null,
        attempts_max     bigint not null,
        backoff_first_ms bigint not null,
        backoff_max_ms   bigint,
        timeout_ms       bigint not null,
        aliases          mediumtext not null,
        event_aliases    mediumtext not null,
        unique_key       text,
        unique_ms        bigint,
        ordered_by       text,
        retired          bool not null default false,
        done             bigint not null default 0,
        retried          bigint not null default 0,
        dead             bigint not null default 0,
        unique index evented_handlers_id (id)
    )"
    ),
    // What was settled, a row for each exchange and handler, until it is added to the handlers' own counters: a row that
    // every worker updates would let one commit at a time.
    table!(
        "evented_counts (
        num     bigint not null auto_increment primary key,
        handler int not null,
        done    bigint not null,
        retried bigint not null,
        dead    bigint not null
    )"
    ),
    // `due_at` is when a delivery may be claimed: its time, its retry, or the end of its lease. So one index finds what
    // is due, a lease that ends needs nobody to notice, and a claim is one update. `lease` is the fencing token while
    // leased. `alone`: 1 where it outlived a lease and is to run alone, 2 while it does. `backoff_max_ms` is null for a
    // fixed backoff, `correlation`, the bytes of an `Origin`, where nothing led to the event. A delivery that waits for
    // another of its order key has the `due_at` of never, and `own_due_at` for its turn. Times are milliseconds of the
    // server's clock.
    table!(
        "evented_deliveries (
        seq              bigint not null auto_increment primary key,
        id               binary(16) not null,
        event_id         binary(16) not null,
        handler          int not null,
        due_at           bigint not null,
        own_due_at       bigint,
        lease            bigint,
        failed           bigint not null default 0,
        alone            int not null default 0,
        deaths           bigint not null default 0,
        attempts_max     bigint not null,
        backoff_first_ms bigint not null,
        backoff_max_ms   bigint,
        timeout_ms       bigint not null,
        version          bigint not null,
        emitted_at       bigint not null,
        correlation      varbinary(1000),
        order_key        binary(16),
        error            mediumtext,
        payload          longblob not null,
        unique index evented_deliveries_id (id),
        index evented_deliveries_due (handler, due_at, seq),
        index evented_deliveries_order (order_key, seq)
    )"
    ),
    // Each order key with a delivery: who stores or ends one holds its row, so that they come one after the other.
    table!(
        "evented_order_keys (
        order_key binary(16) not null primary key
    )"
    ),
    // The delivery that stands for the others of its unique key, until then.
    table!(
        "evented_unique (
        unique_key binary(16) not null primary key,
        delivery   binary(16) not null,
        until_ms   bigint not null,
        index evented_unique_until (until_ms)
    )"
    ),
    // Deliveries whose push may be repeated, so that the repetition stores nothing even after they are settled; and which
    // push was the first.
    table!(
        "evented_once (
        id   binary(16) not null primary key,
        push bigint not null,
        at   bigint not null,
        index evented_once_at (at)
    )"
    ),
    table!(
        "evented_dead_letters (
        seq              bigint not null auto_increment primary key,
        id               binary(16) not null,
        event_id         binary(16) not null,
        handler          int not null,
        failed           bigint not null,
        deaths           bigint not null,
        attempts_max     bigint not null,
        backoff_first_ms bigint not null,
        backoff_max_ms   bigint,
        timeout_ms       bigint not null,
        version          bigint not null,
        emitted_at       bigint not null,
        died_at          bigint not null,
        correlation      varbinary(1000),
        order_key        binary(16),
        error            mediumtext not null,
        payload          longblob not null,
        index evented_dead_letters_id (id),
        index evented_dead_letters_handler (handler, seq),
        index evented_dead_letters_died (died_at)
    )"
    ),
    table!(
        "evented_queues (
        name   varchar(700) not null primary key,
        paused bool not null
    )"
    ),
    // Emitted transactional events, until the relay turned them into deliveries. Unique with the event's name: one id, chosen
    // by the caller, may stand for two events of two types.
    table!(
        "evented_outbox (
        seq         bigint not null auto_increment primary key,
        event_id    binary(16) not null,
        event       varchar(700) not null,
        due_at      bigint not null,
        lease       bigint,
        version     bigint not null,
        emitted_at  bigint not null,
        correlation varbinary(1000),
        payload     longblob not null,
        unique index evented_outbox_event (event_id, event),
        index evented_outbox_due (due_at, seq)
    )"
    ),
    // Deliveries of another store that ran to their end in a transaction of this database.
    table!(
        "evented_inbox (
        delivery binary(16) not null primary key,
        at       bigint not null,
        index evented_inbox_at (at)
    )"
    ),
];

const SECOND: &[&str] = &[
    // Which queue the outbox feeds, by its identity.
    "alter table evented_schema add column feeds varchar(255)",
    // What is stored and leased is counted like what was settled.
    "alter table evented_handlers add column retired_at bigint",
    "alter table evented_handlers add column kept bigint not null default 0",
    "alter table evented_handlers add column running bigint not null default 0",
    "alter table evented_counts add column kept bigint not null default 0",
    "alter table evented_counts add column running bigint not null default 0",
    // Which push met a delivery that was there already.
    "alter table evented_deliveries add column again bigint",
    // The queue that the rest of a row goes to, by its identity: null where no turn has looked at the row yet; the handlers whom
    // it goes to there, in JSON; and what stands in its way.
    "alter table evented_outbox add column target varchar(255)",
    "alter table evented_outbox add column handlers mediumtext",
    "alter table evented_outbox add column error mediumtext",
    // A new row is due at 0 where it may be taken; others are given that when their time comes. So the first ones, in the order
    // in which they were written, are found past any number that are delayed.
    "alter table evented_outbox add index evented_outbox_next (target, due_at, seq)",
    // At once, and not a release later: the relay of schema 1 asks for it by name, and must not go on beside this one.
    "alter table evented_outbox drop index evented_outbox_due",
    // Those that such a relay has in hand are new. It may push them still; the queue remembers that.
    "update evented_outbox set lease = null, due_at = 0 where lease is not null and target is null",
    // The order keys of what goes elsewhere of rows that have their target: the first of a key and target goes.
    table!(
        "evented_outbox_keys (
        order_key binary(16) not null,
        target    varchar(255) not null,
        seq       bigint not null,
        primary key (order_key, target, seq),
        index evented_outbox_keys_seq (seq)
    )"
    ),
];

const THIRD: &[&str] = &[
    // Who holds leases: until when a session lives that is renewed no more, and how long its leases are.
    table!(
        "evented_sessions (
        id       bigint not null primary key,
        until_ms bigint not null,
        lease_ms bigint not null,
        index evented_sessions_until (until_ms)
    )"
    ),
    // `holder` is the session that leases it, or did last. `suspect`: 1 where it is exposed, 2 where it is tried singly. One that
    // waits as a suspect has a `due_at` of its own, that much before never: no claim finds it, and the index finds the suspects
    // of a handler. `died_with` is the session that died with it last; `pending`: that was while it was tried.
    "alter table evented_deliveries add column holder bigint",
    "alter table evented_deliveries add column suspect bigint not null default 0",
    "alter table evented_deliveries add column died_with bigint",
    "alter table evented_deliveries add column charges bigint not null default 0",
    "alter table evented_deliveries add column pending bigint not null default 0",
    "alter table evented_deliveries add index evented_deliveries_died (died_with)",
    // They were counted by another rule.
    "update evented_deliveries set deaths = 0 where deaths <> 0 and suspect = 0",
];

/// What is known of a store once its tables are right.
pub(super) struct Found {
    /// The server as it calls itself, and the database: the same for all ways of writing its URL.
    pub name: String,
    pub met: Met,
    /// What a commit survives.
    pub promise: &'static str,
}

/// Brings the tables to this release's version, or says why it cannot.
pub(super) async fn migrate(options: &MySqlConnectOptions) -> Result<Found, StoreError> {
    let mut conn = open(options).await?;
    let could_not = |error| failed("could not prepare evented's tables", false, error);
    let row = sql("select @@version, @@hostname, cast(@@port as signed), database()");
    let row = row.fetch_one(&mut conn).await.map_err(could_not)?;
    let text = |at: usize| row.try_get::<Option<String>, _>(at).map_err(could_not);
    let Some(database) = text(3)? else {
        return Err(StoreError::lasting(
            "the outbox's URL names no database; write one like `mysql://user@localhost:3306/shop`",
            Written::Nothing,
        ));
    };
    let port: i64 = row.try_get(2).map_err(could_not)?;
    let place = format!("mysql:{}:{port}/{database}", text(1)?.unwrap_or_default());
    let version = text(0)?.unwrap_or_default();
    if !is_new_enough(&version) {
        let text = format!("{place} is version {version}; evented needs MySQL 8.0 or MariaDB 10.6, or newer");
        return Err(StoreError::lasting(text, Written::Nothing));
    }
    let migrating = async {
        // Most starts find the tables as they should be, and need no lock for that.
        let version = read_version(&mut conn).await.map_err(could_not)?;
        let met = identity::read(&mut conn).await.map_err(could_not)?;
        if !matches!(version, Some((VERSION.., ..=VERSION))) || met.is_none() {
            bring_up(&place, &mut conn, &new_store_name()).await?;
        }
        look(place.clone(), &mut conn).await.map_err(could_not)
    };
    match time::within(MIGRATION, migrating).await {
        Some(found) => found,
        None => Err(StoreError::transient(
            format!("evented's tables in {place} were not ready within {MIGRATION:?}"),
            Written::Nothing,
        )),
    }
}

/// Both have `for update skip locked` since then. A version of `MariaDB` says so.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    found >= if version.contains("MariaDB") { (10, 6) } else { (8, 0) }
}

/// Makes a store whole again that was emptied while this process went on: it is the one that it was.
pub(super) async fn make_whole(options: &MySqlConnectOptions, place: &str, name: &str) -> Result<(), StoreError> {
    let mut conn = open(options).await?;
    match time::within(MIGRATION, bring_up(place, &mut conn, name)).await {
        Some(done) => done,
        None => Err(StoreError::transient(
            format!("evented's tables in {place} were not ready within {MIGRATION:?}"),
            Written::Nothing,
        )),
    }
}

async fn read_version(conn: &mut MySqlConnection) -> Result<Option<(i64, i64)>, SqlxError> {
    match sql("select version, min_compatible from evented_schema").fetch_optional(conn).await {
        Ok(row) => row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose(),
        Err(error) if code(&error) == Some(NO_SUCH_TABLE) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Others who start now wait for the one that is first. The lock is the session's, and ends with it.
async fn bring_up(place: &str, conn: &mut MySqlConnection, name: &str) -> Result<(), StoreError> {
    let could_not = |error| failed(&format!("could not prepare evented's tables in {place}"), false, error);
    let lock = sql("select get_lock(concat('evented_schema:', md5(database())), ?)")
        .bind(i64::try_from(MIGRATION.as_secs()).unwrap_or(i64::MAX))
        .fetch_one(&mut *conn);
    let taken: Option<bool> = lock.await.and_then(|row| row.try_get(0)).map_err(could_not)?;
    if taken != Some(true) {
        let text = format!("evented's tables in {place} could not be locked for their migration");
        return Err(StoreError::transient(text, Written::Nothing));
    }
    let migrated = migrate_locked(place, conn, name).await;
    sql("do release_lock(concat('evented_schema:', md5(database())))").execute(conn).await.map_err(could_not)?;
    migrated
}

async fn migrate_locked(place: &str, conn: &mut MySqlConnection, name: &str) -> Result<(), StoreError> {
    let could_not = |error| failed(&format!("could not prepare evented's tables in {place}"), false, error);
    let (version, min_compatible) = read_version(conn).await.map_err(could_not)?.unwrap_or_default();
    if min_compatible > VERSION {
        return Err(StoreError::lasting(
            format!(
                "evented's tables in {place} are of schema {version}, which needs code of schema {min_compatible} or \
                 newer; this release writes schema {VERSION}: update evented in this process"
            ),
            Written::Nothing,
        ));
    }
    // Where the row of the version is lost, all of it is done again, and finds its tables.
    let done = usize::try_from(version).unwrap_or(0).min(MIGRATIONS.len());
    for text in MIGRATIONS[done..].iter().flat_map(|migration| migration.iter()) {
        match conn.execute(*text).await {
            Ok(_) => {}
            Err(error) if code(&error).is_some_and(|code| DONE_BEFORE.contains(&code)) => {}
            Err(error) => return Err(could_not(error)),
        }
    }
    // Not by an insert that may meet it: transactions of the application's hold the row, if others may read it.
    if identity::read(conn).await.map_err(could_not)?.is_none() {
        let identity = sql("insert into evented_identity (id, identity) values (1, ?)");
        identity.bind(name.to_owned()).execute(&mut *conn).await.map_err(could_not)?;
    }
    if version >= VERSION {
        return Ok(());
    }
    let write = sql("insert into evented_schema (id, version, min_compatible, catalogue) values (1, ?, ?, ?)
         on duplicate key update version = values(version), min_compatible = values(min_compatible),
            catalogue = values(catalogue)");
    let write = write.bind(VERSION).bind(MIN_COMPATIBLE).bind(new_generation().cast_signed());
    write.execute(&mut *conn).await.map_err(could_not)?;
    // What was stored before it was counted.
    counts::recount(conn).await.map_err(could_not)?;
    conn.execute("commit").await.map_err(could_not)?;
    Ok(())
}

/// What a step of a migration says that was taken before: the column is there, the index is there, the index is gone.
const DONE_BEFORE: [u16; 3] = [1060, 1061, 1091];

async fn look(place: String, conn: &mut MySqlConnection) -> Result<Found, SqlxError> {
    let row = sql("select cast(@@innodb_flush_log_at_trx_commit as signed), cast(@@log_bin as signed),
            cast(@@sync_binlog as signed)")
    .fetch_one(&mut *conn)
    .await?;
    Ok(Found {
        name: place,
        met: identity::read(conn).await?.ok_or(SqlxError::RowNotFound)?,
        promise: promise(row.try_get(0)?, row.try_get::<i64, _>(1)? == 0 || row.try_get::<i64, _>(2)? == 1),
    })
}

/// What a commit survives:
/// <https://dev.mysql.com/doc/refman/8.4/en/innodb-parameters.html#sysvar_innodb_flush_log_at_trx_commit>.
fn promise(flush: i64, binlog_is_synced: bool) -> &'static str {
    match (flush, binlog_is_synced) {
        (0, _) => {
            "innodb_flush_log_at_trx_commit=0: survives a crash of the process; a crash of the server may lose the last \
             second"
        }
        (1, true) => "innodb_flush_log_at_trx_commit=1: survives a crash of the process, of the server and a power cut",
        (1, false) => {
            "innodb_flush_log_at_trx_commit=1 without sync_binlog=1: survives a crash of the process and of the server; a \
             power cut may lose the last commits, here or at the replicas"
        }
        _ => {
            "innodb_flush_log_at_trx_commit=2: survives a crash of the process and of the server; a power cut may lose the \
             last second"
        }
    }
}
