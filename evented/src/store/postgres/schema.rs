//! The tables, and how an older release's tables become this one's.
//!
//! A migration expands; what it makes unneeded is dropped a release later. So a process of the release before goes on
//! beside this one: it refuses only a schema whose `min_compatible` is newer than its own version.

use std::sync::atomic::Ordering;

use sqlx::{AssertSqlSafe, Error as SqlxError, Executor as _, Row as _};

use crate::{
    error::{StoreError, Written},
    id,
    store::Identity,
    time,
};

use super::{
    link::{Plans, Session, code, failed, open},
    place::Place,
};

/// The schema that this code writes.
const VERSION: i64 = 4;
/// The oldest code that may go on with it. Older code knows nothing of the counters beside the deliveries, which a sweep counts again
/// where it may, and would send outbox rows to whatever queue it has. Schema 3 may go on: what it claims it claims in nobody's name.
const MIN_COMPATIBLE: i64 = 3;
/// The oldest server whose statements these are.
const SERVER_MIN: u32 = 150_000;
/// How long a migration may take, others' before it included.
const MIGRATION: std::time::Duration = std::time::Duration::from_mins(5);

/// How long it waits at once for a table that others use, and how long it lets them be then.
const LOCK_MAX: std::time::Duration = std::time::Duration::from_secs(3);
const LOCK_GAP: std::time::Duration = std::time::Duration::from_secs(2);

/// Each entry takes the schema from its index to the next version.
const MIGRATIONS: &[&[&str]] = &[FIRST, OUTBOX, MEMORY, SESSIONS];

const FIRST: &[&str] = &[
    // Handlers of every process, by a small number that keeps deliveries narrow.
    "create table evented_handlers (
        num              int4 generated always as identity primary key,
        id               text not null unique,
        event            text not null,
        route            text not null,
        queue            text not null,
        attempts_max     int4 not null,
        backoff_first_ms int8 not null,
        backoff_max_ms   int8,
        timeout_ms       int8 not null,
        aliases          text[] not null,
        event_aliases    text[] not null,
        unique_key       text,
        unique_ms        int8,
        ordered_by       text,
        retired          bool not null default false,
        done             int8 not null default 0,
        retried          int8 not null default 0,
        dead             int8 not null default 0
    )",
    // What was settled, a row for each exchange and handler, until it is added to the handlers' own counters: a row that
    // every worker updates would let one commit at a time.
    "create table evented_counts (
        handler int4 not null,
        done    int8 not null,
        retried int8 not null,
        dead    int8 not null
    )",
    // `due_at` is when a delivery may be claimed: its time, its retry, or the end of its lease. So one index finds what
    // is due, a lease that ends needs nobody to notice, and a claim is one update. `lease` is the fencing token while
    // leased. `alone`: 1 where it outlived a lease and is to run alone, 2 while it does. `backoff_max_ms` is null for a
    // fixed backoff, `correlation`, the bytes of an `Origin`, where nothing led to the event. A delivery that waits for another of its order key has
    // the `due_at` of never, and `own_due_at` for its turn. Times are milliseconds of the server's clock. The wide
    // columns come first, so that none is padded.
    "create table evented_deliveries (
        seq              int8 generated always as identity,
        due_at           int8 not null,
        emitted_at       int8 not null,
        timeout_ms       int8 not null,
        backoff_first_ms int8 not null,
        backoff_max_ms   int8,
        lease            int8,
        own_due_at       int8,
        handler          int4 not null,
        version          int4 not null,
        attempts_max     int4 not null,
        failed           int4 not null default 0,
        deaths           int4 not null default 0,
        alone            int2 not null default 0,
        id               bytea not null,
        event_id         bytea not null,
        correlation      bytea,
        order_key        bytea,
        error            text,
        payload          bytea not null
    )",
    // A row is written twice before it is deleted, when it is pushed and when it is leased: with room for the second beside
    // the first, a batch touches half as many pages. The default of waiting for a fifth of the table to be dead is made
    // for tables that stay; this one is dead as a whole again and again, and each claim reads past what is left of it.
    // A truncation would lock everybody out, to give back what the next burst asks for again.
    "alter table evented_deliveries set (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_insert_scale_factor = 0.5,
        autovacuum_analyze_scale_factor = 0.5, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off,
        toast.vacuum_truncate = off, toast.autovacuum_vacuum_scale_factor = 0.02,
        toast.autovacuum_vacuum_threshold = 2000, toast.autovacuum_vacuum_cost_delay = 0)",
    "create unique index evented_deliveries_id on evented_deliveries (id)",
    "create index evented_deliveries_due on evented_deliveries (handler, due_at, seq)",
    "create index evented_deliveries_order on evented_deliveries (order_key, seq) where order_key is not null",
    // Each order key with a delivery: who stores or ends one holds its row, so that they come one after the other.
    "create table evented_order_keys (key bytea not null primary key) with (fillfactor = 50,
        autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off)",
    // The delivery that stands for the others of its unique key, until then.
    "create table evented_unique (
        key      bytea not null primary key,
        delivery bytea not null,
        until    int8 not null
    )",
    "create index evented_unique_until on evented_unique (until)",
    // Deliveries whose push may be repeated, so that the repetition stores nothing even after they are settled.
    "create table evented_once (
        id bytea not null primary key,
        at int8 not null
    )",
    "create index evented_once_at on evented_once (at)",
    "create table evented_dead_letters (
        seq              int8 generated always as identity primary key,
        emitted_at       int8 not null,
        died_at          int8 not null,
        timeout_ms       int8 not null,
        backoff_first_ms int8 not null,
        backoff_max_ms   int8,
        handler          int4 not null,
        version          int4 not null,
        attempts_max     int4 not null,
        failed           int4 not null,
        deaths           int4 not null,
        id               bytea not null,
        event_id         bytea not null,
        correlation      bytea,
        order_key        bytea,
        error            text not null,
        payload          bytea not null
    )",
    "create index evented_dead_letters_id on evented_dead_letters (id)",
    "create index evented_dead_letters_handler on evented_dead_letters (handler, seq)",
    "create index evented_dead_letters_died on evented_dead_letters (died_at)",
    "create table evented_queues (
        name   text not null primary key,
        paused bool not null
    )",
];

const OUTBOX: &[&str] = &[
    IDENTITY,
    // Emitted transactional events. `due_at` is when a relay may take the row: its time, or the end of its lease. The event's
    // id and name are the key: emitting the same id again writes nothing while the row waits.
    "create table evented_outbox (
        seq         int8 generated always as identity primary key,
        due_at      int8 not null,
        emitted_at  int8 not null,
        lease       int8,
        version     int4 not null,
        event_id    bytea not null,
        event       text not null,
        correlation bytea,
        payload     bytea not null
    )",
    // As `evented_deliveries`: it is dead as a whole again and again.
    "alter table evented_outbox set (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_insert_scale_factor = 0.5,
        autovacuum_analyze_scale_factor = 0.5, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off,
        toast.vacuum_truncate = off, toast.autovacuum_vacuum_scale_factor = 0.02,
        toast.autovacuum_vacuum_threshold = 2000, toast.autovacuum_vacuum_cost_delay = 0)",
    "create unique index evented_outbox_event on evented_outbox (event_id, event)",
    "create index evented_outbox_due on evented_outbox (due_at, seq)",
    // Deliveries of other stores whose transactional handler has run to its end in this database.
    "create table evented_inbox (
        delivery bytea not null primary key,
        at       int8 not null
    )",
    "create index evented_inbox_at on evented_inbox (at)",
];

const MEMORY: &[&str] = &[
    ONE_ROW,
    // Without a primary key a publication of all tables makes a table unwritable.
    "alter table evented_deliveries add constraint evented_deliveries_id primary key using index evented_deliveries_id",
    // What is stored and what is leased, counted with each change: nothing reads all deliveries to tell it.
    "alter table evented_handlers add column retired_at int8, add column stored int8 not null default 0,
        add column running int8 not null default 0",
    "alter table evented_counts add column num int8 generated always as identity primary key,
        add column stored int8 not null default 0, add column running int8 not null default 0",
    // As `evented_deliveries`: it is dead as a whole again and again.
    "alter table evented_counts set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off)",
    // Nobody writes deliveries until this is committed: their table is locked above.
    "update evented_handlers h set stored = c.stored, running = c.running from (
        select handler, count(*) as stored, count(lease) as running from evented_deliveries group by handler) c
     where h.num = c.handler",
    // Who deletes a handler moves the catalogue: whoever plans with it plans again, and records it again. By whatever search
    // path that person finds the table.
    "create or replace function evented_handlers_gone() returns trigger language plpgsql as $$
     begin
        execute format('update %I.evented_schema set catalogue = 1 + floor(random() * 9e18)::int8', tg_table_schema);
        return null;
     end $$",
    "create or replace trigger evented_handlers_gone after delete on evented_handlers
        for each statement execute function evented_handlers_gone()",
    "create or replace trigger evented_handlers_emptied after truncate on evented_handlers
        for each statement execute function evented_handlers_gone()",
    // `target` is the queue that a row goes to and `handlers`, in JSON, those whom it goes to there, from the first turn that had
    // it; `error` is what stands in its way. A turn looks at new rows, and at those of one target: never past those that wait
    // for another. The relay of the release before knows no target, and would store again what stays of a row: without its
    // column it fails, while its process emits as before.
    "alter table evented_outbox add column target text, add column handlers text, add column error text",
    "alter table evented_outbox rename column lease to held",
    // Those that such a relay has in hand are new. It may push them still; the queue remembers that.
    "update evented_outbox set held = null, due_at = 0 where held is not null",
    "drop index evented_outbox_due",
    // A new row is due at 0 where it may be taken; others are given that when their time comes. So the first ones, in the order
    // in which they were written, are found past any number that are delayed.
    "create index evented_outbox_new on evented_outbox (due_at, seq) where target is null",
    "create index evented_outbox_target on evented_outbox (target, due_at, seq) where target is not null",
    // The order keys of what goes elsewhere of rows that have a target.
    "create table evented_outbox_keys (
        key    bytea not null,
        target text not null,
        seq    int8 not null,
        primary key (key, target, seq)
    ) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off)",
    "create index evented_outbox_keys_seq on evented_outbox_keys (seq)",
];

/// Who holds a lease, and what is held against deliveries whose holders died.
const SESSIONS: &[&str] = &[
    // Until when a session lives that is renewed no more, and how long its leases are. Each renewal updates its row in place, so
    // there is no index on that time.
    "create table evented_sessions (
        id       int8 not null primary key,
        until    int8 not null,
        lease_ms int8 not null
    ) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off)",
    // `session` leases it, or did last. `suspect`: 1 where it is exposed, 2 where it is tried singly. One that waits as a suspect
    // has a `due_at` of its own, that much before never: no claim finds it, and the index finds the suspects of a handler.
    // `died_with` is the session that died with it last; `pending`: that was while it was tried.
    "alter table evented_deliveries add column session int8, add column died_with int8,
        add column charges int4 not null default 0, add column suspect int2 not null default 0,
        add column pending bool not null default false",
    "create index evented_deliveries_died on evented_deliveries (died_with) where died_with is not null",
    // They were counted by another rule.
    "update evented_deliveries set deaths = 0 where deaths <> 0",
];

/// What tells this database from others: a row of the outbox in another would never be delivered.
const IDENTITY: &str =
    "alter table evented_schema add column if not exists identity text not null default gen_random_uuid()::text";

/// One row, of which each process can say that it is there; and the queue that the outbox feeds.
const ONE_ROW: &str = "alter table evented_schema
    add column if not exists id int2 not null default 1 primary key check (id = 1), add column if not exists feeds text";

/// What the second version and the third gave `evented_schema`, for the one that is made where a person has dropped it.
const AS_IT_WAS: &[&str] = &[IDENTITY, ONE_ROW];

/// All of our tables that a migration may find, in the order in which they are locked.
const TABLES: &str = "select array_agg(name order by place) from unnest(array['evented_schema', 'evented_handlers', 'evented_counts',
        'evented_deliveries', 'evented_order_keys', 'evented_unique', 'evented_once', 'evented_dead_letters', 'evented_queues',
        'evented_outbox', 'evented_outbox_keys', 'evented_inbox', 'evented_sessions']) with ordinality t(name, place)
    where to_regclass(name) is not null";

/// The version of tables whose `evented_schema` is empty: as far as they are there.
const AS_THEY_ARE: &str = "select case when to_regclass('evented_sessions') is not null then 4
    when to_regclass('evented_outbox_keys') is not null then 3
    when to_regclass('evented_outbox') is not null then 2
    when to_regclass('evented_handlers') is not null then 1 else 0 end::int8";

/// Makes the row of `evented_schema` where there is none; as many are told of it as have made it.
pub(super) const MAKE_ROW: &str = "insert into evented_schema (version, min_compatible, catalogue, identity)
    values ($1, $2, $3, $4) on conflict (id) do nothing";

/// Whether the server says which it is: a role may be denied it.
const MAY_ASK_SERVER: &str = "select has_function_privilege('pg_control_system()', 'execute')";

/// The name of the store, its database and, where we may ask, its server. `$1` stands in for the name where that is gone.
macro_rules! identity {
    ($name:literal) => {
        concat!(
            "coalesce((select i.identity from evented_schema i), ",
            $name,
            ") || '/' ||
            (select d.oid from pg_database d where d.datname = current_database())"
        )
    };
}

/// With the server.
macro_rules! identity_and_server {
    ($name:literal) => {
        concat!(super::schema::identity!($name), " || '/' || (select c.system_identifier from pg_control_system() c)")
    };
}

pub(super) use {identity, identity_and_server};

/// Reads which store it is; `None` where its name is gone.
pub(super) async fn read_identity(session: &mut Session) -> Result<Option<Identity>, SqlxError> {
    let may: bool = session.sql(MAY_ASK_SERVER).fetch_one(&mut session.conn).await?.try_get(0)?;
    let sql =
        if may { concat!("select ", identity_and_server!("null")) } else { concat!("select ", identity!("null")) };
    let identity: Option<String> = session.sql(sql).fetch_one(&mut session.conn).await?.try_get(0)?;
    Ok(identity.map(Identity::from))
}

/// Makes what evented presumes to be there, with the name that this process knows of the store; answers whether it was not.
pub(super) async fn make_whole(session: &mut Session, known: &Identity) -> Result<bool, SqlxError> {
    let made = session
        .sql(MAKE_ROW)
        .bind(VERSION)
        .bind(MIN_COMPATIBLE)
        .bind(id::new_generation().cast_signed())
        .bind(name_of(known))
        .execute(&mut session.conn)
        .await?;
    Ok(made.rows_affected() > 0)
}

/// The part of an identity that lies in the store.
fn name_of(identity: &Identity) -> &str {
    identity.as_str().split('/').next().unwrap_or_default()
}

/// What is known of a store once its tables are right.
pub(super) struct Found {
    /// What a commit survives.
    pub promise: &'static str,
    /// The schema that has the tables, where it is not `public`.
    pub schema: Option<String>,
    /// The channel on which changes are told: one for each place of our tables.
    pub channel: String,
    /// What tells the database from others.
    pub identity: Identity,
}

/// Brings the tables to this release's version, or says why it cannot.
pub(super) async fn migrate(place: &Place) -> Result<Found, StoreError> {
    let mut session = open(place, Plans::Free).await?;
    if session.conn.server_version_num().is_some_and(|version| version < SERVER_MIN) {
        let text = format!("{} is older than Postgres 15, which evented needs", place.name);
        return Err(StoreError::lasting(text, Written::Nothing));
    }
    let could_not = |error| failed(&format!("could not prepare evented's tables in {}", place.name), false, error);
    if hides_nothing(&mut session).await.map_err(could_not)? {
        place.row_security.store(true, Ordering::Relaxed);
        session = open(place, Plans::Free).await?;
    }
    let migrating = async {
        // Most starts find the tables as they should be, and need no lock for that.
        if !are_right(&mut session).await.map_err(could_not)? {
            bring_up(place, &mut session).await?;
        }
        look(&mut session).await.map_err(could_not)
    };
    match time::within(MIGRATION, migrating).await {
        Some(found) => found,
        None => Err(StoreError::transient(
            format!("evented's tables in {} were not ready within {MIGRATION:?}", place.name),
            Written::Nothing,
        )),
    }
}

/// Whether row security is active for us on tables of ours, and each of them has a policy that lets us see and write all.
async fn hides_nothing(session: &mut Session) -> Result<bool, SqlxError> {
    let row = session
        .sql(
            "select coalesce(bool_and(exists (
                    select from pg_policy p where p.polrelid = c.oid and p.polpermissive and p.polcmd = '*'
                        and pg_get_expr(p.polqual, p.polrelid) = 'true'
                        and coalesce(pg_get_expr(p.polwithcheck, p.polrelid), 'true') = 'true'
                        and (0 = any(p.polroles) or exists (
                            select from unnest(p.polroles) r where r <> 0 and pg_has_role(r, 'member'))))
                and not exists (select from pg_policy p where p.polrelid = c.oid and not p.polpermissive)), false)
             from pg_class c
             where c.relnamespace = (select s.relnamespace from pg_class s where s.oid = to_regclass('evented_schema'))
                and c.relkind = 'r' and c.relname like 'evented\\_%' and row_security_active(c.oid)",
        )
        .fetch_one(&mut session.conn)
        .await?;
    row.try_get(0)
}

async fn version(session: &mut Session) -> Result<Option<(i64, i64)>, SqlxError> {
    let row =
        session.sql("select version, min_compatible from evented_schema").fetch_optional(&mut session.conn).await?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

async fn are_right(session: &mut Session) -> Result<bool, SqlxError> {
    // In a transaction, for the sake of a pooler, behind which the next statement may be in another session.
    session.conn.execute("begin isolation level read committed read write").await?;
    let made = session.sql("select to_regclass('evented_schema') is not null").fetch_one(&mut session.conn).await?;
    let found = if made.try_get(0)? { version(session).await? } else { None };
    session.conn.execute("commit").await?;
    Ok(matches!(found, Some((VERSION.., ..=VERSION))))
}

async fn bring_up(place: &Place, session: &mut Session) -> Result<(), StoreError> {
    let could_not = |error| failed(&format!("could not prepare evented's tables in {}", place.name), false, error);
    // Others who start now wait here for the one that is first. The lock ends with the transaction, so that it works behind
    // a pooler; its number is "evented" in bytes.
    let begin = "begin isolation level read committed read write; set local statement_timeout = 0;
        select pg_advisory_xact_lock(28559150664672612)";
    sqlx::raw_sql(begin).execute(&mut session.conn).await.map_err(could_not)?;
    let there = session.sql("select to_regclass('evented_schema') is not null").fetch_one(&mut session.conn);
    let there: bool = there.await.and_then(|row| row.try_get(0)).map_err(could_not)?;
    let make = "create table if not exists evented_schema (
            version int8 not null, min_compatible int8 not null, catalogue int8 not null
        ) with (fillfactor = 50)";
    session.conn.execute(make).await.map_err(could_not)?;
    let found = version(session).await.map_err(could_not)?;
    let (version, min_compatible) = if let Some(found) = found {
        found
    } else {
        let row = session.sql(AS_THEY_ARE).fetch_one(&mut session.conn).await.map_err(could_not)?;
        let version: i64 = row.try_get(0).map_err(could_not)?;
        if version > 0 {
            tracing::warn!(store = %place.name, "evented's own row in `evented_schema` was gone; it is made again, as of a new \
                store");
        }
        (version, 0)
    };
    if min_compatible > VERSION {
        return Err(StoreError::lasting(
            format!(
                "evented's tables in {} are of schema {version}, which needs code of schema {min_compatible} or newer; \
                 this release writes schema {VERSION}: update evented in this process",
                place.name
            ),
            Written::Nothing,
        ));
    }
    let done = usize::try_from(version).unwrap_or(0);
    if version < VERSION {
        lock(place, session).await.map_err(could_not)?;
    }
    let as_it_was = AS_IT_WAS.iter().take(if there { 0 } else { done.saturating_sub(1) });
    for sql in as_it_was.chain(MIGRATIONS[done.min(MIGRATIONS.len())..].iter().flat_map(|migration| migration.iter())) {
        session.conn.execute(*sql).await.map_err(could_not)?;
    }
    if version < VERSION || found.is_none() {
        let write = if found.is_some() {
            session
                .sql("update evented_schema set version = $1, min_compatible = $2")
                .bind(VERSION)
                .bind(MIN_COMPATIBLE)
        } else {
            let generation = id::new_generation().cast_signed();
            session.sql(MAKE_ROW).bind(VERSION).bind(MIN_COMPATIBLE).bind(generation).bind(id::new_store_name())
        };
        write.execute(&mut session.conn).await.map_err(could_not)?;
    }
    session.conn.execute("commit").await.map_err(could_not)?;
    Ok(())
}

/// Locks our tables before the first is changed, again and again while others use them, until whoever called gives up. Those who
/// start meanwhile stand behind this one, which would try in its gaps otherwise.
async fn lock(place: &Place, session: &mut Session) -> Result<(), SqlxError> {
    let mut said = false;
    loop {
        session.conn.execute("savepoint evented_lock").await?;
        let Err(error) = lock_once(session).await else { break };
        // We gave up to wait for a table, or were given up for another's sake.
        if !matches!(code(&error).as_deref(), Some("55P03" | "57014" | "40P01")) {
            return Err(error);
        }
        session.conn.execute("rollback to savepoint evented_lock").await?;
        if !std::mem::replace(&mut said, true) {
            tracing::warn!(store = %place.name, error = %crate::error::in_one_line(&error), "a transaction that takes long uses \
                evented's tables; they are brought up to this release's when it has ended");
        }
        time::sleep(LOCK_GAP).await;
    }
    Ok(())
}

/// Locks them all at once, or none.
///
/// Whoever comes to a table waits behind us while we wait for it. So the second of the locks is given up before the server looks
/// for the deadlock that somebody may be in who waits for us: it is always we who try again, and never a transaction of the
/// application's that fails. The first is in nobody's way but a vacuum's, which the server ends for it after a while, and keeps
/// vacuums out.
async fn lock_once(session: &mut Session) -> Result<(), SqlxError> {
    let row = session.sql(TABLES).fetch_one(&mut session.conn).await?;
    let tables = row.try_get::<Vec<String>, _>(0)?.join(", ");
    let row = session
        .sql("select least(setting::int8 * 9 / 10, $1) from pg_settings where name = 'deadlock_timeout'")
        .bind(time::millis(LOCK_MAX))
        .fetch_one(&mut session.conn)
        .await?;
    let most: i64 = row.try_get(0)?;
    for sql in [
        format!("set local lock_timeout = {}", time::millis(LOCK_MAX)),
        format!("lock table {tables} in share update exclusive mode"),
        // This limit is for all of them together.
        format!("set local lock_timeout = 0; set local statement_timeout = {most}"),
        format!("lock table {tables} in access exclusive mode"),
        "set local statement_timeout = 0".to_owned(),
    ] {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut session.conn).await?;
    }
    Ok(())
}

async fn look(session: &mut Session) -> Result<Found, SqlxError> {
    session.conn.execute("begin isolation level read committed read write").await?;
    let row = session
        .sql(
            "select current_setting('fsync'), current_setting('synchronous_commit'), c.relnamespace::regnamespace::text,
                c.oid::int8
             from pg_class c where c.oid = 'evented_schema'::regclass",
        )
        .fetch_one(&mut session.conn)
        .await?;
    let identity = read_identity(session).await?.ok_or(SqlxError::RowNotFound)?;
    session.conn.execute("commit").await?;
    let schema: String = row.try_get(2)?;
    Ok(Found {
        promise: promise(row.try_get(0)?, row.try_get(1)?),
        schema: (schema != "public").then_some(schema),
        channel: channel(row.try_get(3)?),
        identity,
    })
}

/// The channel of this table.
pub(super) fn channel(table: i64) -> String {
    format!("evented_{table}")
}

/// What a commit survives: <https://www.postgresql.org/docs/current/runtime-config-wal.html>.
pub(super) fn promise(fsync: &str, synchronous_commit: &str) -> &'static str {
    match (fsync, synchronous_commit) {
        ("off", _) => "fsync=off: survives a crash of the process; a crash of the server's machine may lose everything",
        (_, "off") => {
            "synchronous_commit=off: survives a crash of the process; a crash of the server may lose the last commits"
        }
        (_, "local") => "synchronous_commit=local: survives a crash of the process and of the server",
        (_, "remote_write") => "synchronous_commit=remote_write: survives a crash of the process and of the server",
        (_, "remote_apply") => "synchronous_commit=remote_apply: survives a crash of the process and of the server",
        _ => "synchronous_commit=on: survives a crash of the process and of the server",
    }
}
