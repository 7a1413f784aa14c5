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
alter table evented_handlers add column retired_at integer;
alter table evented_handlers add column stored integer not null default 0;
alter table evented_handlers add column running integer not null default 0;
create trigger evented_deliveries_stored after insert on evented_deliveries begin
        update evented_handlers set stored = stored + 1, running = running + (new.lease is not null)
        where num = new.handler;
     end;
create trigger evented_deliveries_gone after delete on evented_deliveries begin
        update evented_handlers set stored = stored - 1, running = running - (old.lease is not null)
        where num = old.handler;
     end;
create trigger evented_deliveries_leased after update of lease on evented_deliveries
     when (old.lease is null) <> (new.lease is null) begin
        update evented_handlers set running = running + (new.lease is not null) - (old.lease is not null)
        where num = new.handler;
     end;
create trigger evented_handlers_gone after delete on evented_handlers begin
        update evented_schema set catalogue = 1 + abs(random() % 9223372036854775806);
     end;
alter table evented_outbox add column target text;
alter table evented_outbox add column error text;
create index evented_outbox_new on evented_outbox (due_at) where target is null;
create index evented_outbox_taken on evented_outbox (target, due_at) where target is not null;
create table evented_outbox_keys (
        key    blob not null,
        target text not null,
        seq    integer not null,
        primary key (key, target, seq)
    ) strict, without rowid;
create index evented_outbox_keys_seq on evented_outbox_keys (seq);
create trigger evented_outbox_gone after delete on evented_outbox when old.target is not null begin
        update evented_outbox set lease = null, due_at = emitted_at
        where lease = 0 and seq in (
            select n.seq from evented_outbox_keys k
            join evented_outbox_keys n on n.key = k.key and n.target = k.target and n.seq > k.seq
            where k.seq = old.seq order by n.seq limit 32);
        delete from evented_outbox_keys where seq = old.seq;
     end;
create index evented_dead_letters_died on evented_dead_letters (died_at);
create index evented_dead_letters_age on evented_dead_letters (handler, died_at);
