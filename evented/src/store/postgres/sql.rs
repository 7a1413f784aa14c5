//! What statements share: the server's clock, and how values stand in columns.

use crate::{
    retry::Backoff,
    store::{Lease, TRIED_FROM},
    time,
};

/// The `due_at` of a delivery that waits for another of its order key.
pub(super) const NEVER: i64 = i64::MAX;
/// The `due_at` of a suspect that waits to be exposed, and of one that waits to be tried singly: no time that comes, and none that
/// [`NEVER`] is. It is never, less what `suspect` is.
pub(super) const EXPOSED: i64 = NEVER - 1;
pub(super) const TRIED: i64 = NEVER - 2;

const _: () = assert!(
    NEVER == 9_223_372_036_854_775_807 && TRIED == 9_223_372_036_854_775_805 && TRIED_FROM == 2,
    "as the statements have it"
);

/// Milliseconds since 1970 by the server's clock, as it goes on during a transaction.
macro_rules! now_ms {
    () => {
        "floor(extract(epoch from clock_timestamp()) * 1000)::int8"
    };
}

/// The deliveries `d` of these leases: `$ids` and `$tokens` are arrays side by side. By their ids, which have an index, and
/// then by both in a hash: a join would be the planner's to turn round. Where another transaction has a row in hand, the
/// statement waits and looks again.
macro_rules! leased {
    ($ids:literal, $tokens:literal) => {
        concat!(
            "d.id = any(",
            $ids,
            "::bytea[]) and coalesce((d.id, d.lease) in (select s.id, s.lease from unnest(",
            $ids,
            "::bytea[], ",
            $tokens,
            "::int8[]) s(id, lease)), false)"
        )
    };
}

/// The text of these bytes. Where the database's encoding does not have all characters, those beyond ASCII are written as
/// `\360\237`: an error that cannot be written as it is must not stand in the way of what is settled beside it.
macro_rules! readable {
    ($bytes:literal) => {
        concat!(
            "case when getdatabaseencoding() in ('UTF8', 'SQL_ASCII') then convert_from(",
            $bytes,
            ", 'UTF8') else encode(",
            $bytes,
            ", 'escape') end"
        )
    };
}

pub(super) use {leased, now_ms, readable};

/// The arrays of `leased!`.
pub(super) fn fence<'a>(leases: impl Iterator<Item = &'a Lease>) -> (Vec<[u8; 16]>, Vec<i64>) {
    leases.map(|lease| (lease.delivery.to_bytes(), lease.token.to_i64())).unzip()
}

/// A lease as it is named.
pub(super) fn key(lease: &Lease) -> ([u8; 16], i64) {
    (lease.delivery.to_bytes(), lease.token.to_i64())
}

/// In the one order in which rows are locked, each once.
pub(super) fn sorted<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values.dedup();
    values
}

pub(super) fn backoff_columns(backoff: Backoff) -> (i64, Option<i64>) {
    match backoff {
        Backoff::Exponential { first, max } => (time::millis(first), Some(time::millis(max))),
        Backoff::Fixed(delay) => (time::millis(delay), None),
    }
}

pub(super) fn backoff(first_ms: i64, max_ms: Option<i64>) -> Backoff {
    let first = time::from_millis(first_ms);
    match max_ms {
        Some(max_ms) => Backoff::Exponential { first, max: time::from_millis(max_ms) },
        None => Backoff::Fixed(first),
    }
}

/// A payload's version is compared in statements, so it keeps its order.
pub(super) fn version_column(version: u32) -> i32 {
    i32::try_from(version).unwrap_or(i32::MAX)
}

/// A text for `readable!`: Postgres has no place for a zero byte.
pub(super) fn storable(text: &str) -> Vec<u8> {
    text.replace('\0', " ").into_bytes()
}
