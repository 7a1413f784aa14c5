-- The tables as schema 2 made them.
create table evented_schema (version integer not null, min_compatible integer not null, catalogue integer not null) strict;
insert into evented_schema values (2, 2, 5);
create table evented_handlers (
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
    ) strict;
create table evented_deliveries (
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
    ) strict;
create unique index evented_deliveries_id on evented_deliveries (id);
create index evented_deliveries_due on evented_deliveries (handler, due_at);
create table evented_once (
        id blob not null primary key,
        at integer not null
    ) strict, without rowid;
create index evented_once_at on evented_once (at);
create table evented_dead_letters (
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
    ) strict;
create table evented_outbox (
        seq         integer primary key,
        event_id    blob not null,
        event       text not null,
        due_at      integer not null,
        lease       integer,
        version     integer not null,
        emitted_at  integer not null,
        correlation blob,
        payload     blob not null
    ) strict;
create unique index evented_outbox_event on evented_outbox (event_id, event);
create index evented_outbox_due on evented_outbox (due_at);
alter table evented_handlers add column unique_key text;
alter table evented_handlers add column unique_ms integer;
alter table evented_handlers add column ordered_by text;
alter table evented_deliveries add column order_key blob;
alter table evented_deliveries add column own_due_at integer;
create index evented_deliveries_order on evented_deliveries (order_key, seq) where order_key is not null;
alter table evented_dead_letters add column order_key blob;
create index evented_dead_letters_id on evented_dead_letters (id);
create index evented_dead_letters_handler on evented_dead_letters (handler, seq);
create table evented_unique (
        key      blob not null primary key,
        delivery blob not null,
        until    integer not null
    ) strict, without rowid;
create index evented_unique_until on evented_unique (until);
create table evented_queues (
        name   text not null primary key,
        paused integer not null
    ) strict, without rowid;
create table evented_inbox (
        delivery blob not null primary key,
        at       integer not null
    ) strict, without rowid;
create index evented_inbox_at on evented_inbox (at);
