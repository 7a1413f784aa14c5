//! What statements share: the server's clock, lists in a statement's text, and how values stand in columns.

use std::fmt::Write as _;

use sqlx::Error as SqlxError;

use crate::{
    id::{DeliveryId, EventId},
    retry::Backoff,
    store::TRIED_FROM,
    time,
};

/// The `due_at` of a delivery that waits for another of its order key.
pub(super) const NEVER: i64 = i64::MAX;
/// The `due_at` of a suspect that waits to be exposed, and of one that waits to be tried singly: no time that comes, and none that
/// [`NEVER`] is. It is never, less what `suspect` is.
pub(super) const EXPOSED: i64 = NEVER - 1;
pub(super) const TRIED: i64 = NEVER - 2;

const _: () = assert!(TRIED_FROM == 2, "as the statements have it");

/// How many rows one step of a change of many has.
pub(super) const STEP: usize = 1_000;

/// Milliseconds since 1970 by the server's clock, as it was when the statement began. In universal time: a session's own
/// has an hour twice each year, and a statement of `emit_in` runs in the application's session.
macro_rules! now_ms {
    () => {
        "(timestampdiff(microsecond, '1970-01-01', utc_timestamp(3)) div 1000)"
    };
}

pub(super) use now_ms;

/// Numbers as a list in a statement's text: there is no array to bind, and a text of its own for each number of
/// placeholders would be prepared anew.
pub(super) fn numbers(numbers: impl IntoIterator<Item = i64>) -> String {
    list(numbers.into_iter().map(|number| number.to_string()))
}

/// Ids and keys as a list in a statement's text.
pub(super) fn ids<'a>(ids: impl IntoIterator<Item = &'a [u8; 16]>) -> String {
    list(ids.into_iter().map(|id| hex(*id)))
}

/// An id or a key in a statement's text.
pub(super) fn hex(id: [u8; 16]) -> String {
    format!("x'{:032x}'", u128::from_be_bytes(id))
}

/// A text of anybody's in a statement's text, by its bytes. Equal to a column by that column's rules.
pub(super) fn text_literal(text: &str) -> String {
    let hex = text.bytes().fold(String::with_capacity(2 * text.len()), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string takes what is written to it");
        hex
    });
    format!("_utf8mb4 x'{hex}'")
}

/// Texts between commas; `null` for none, so that `in (..)` holds of nothing.
pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    if items.is_empty() { "null".to_owned() } else { items.join(",") }
}

/// In the one order in which rows are locked, each once.
pub(super) fn sorted<T: Ord>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_unstable();
    values.dedup();
    values
}

pub(super) fn id_bytes(bytes: &[u8]) -> Result<[u8; 16], SqlxError> {
    bytes.try_into().map_err(SqlxError::decode)
}

pub(super) fn event_id(bytes: &[u8]) -> Result<EventId, SqlxError> {
    id_bytes(bytes).map(EventId::from_bytes)
}

pub(super) fn delivery_id(bytes: &[u8]) -> Result<DeliveryId, SqlxError> {
    id_bytes(bytes).map(DeliveryId::from_bytes)
}

/// A count that is kept in a wide signed column.
pub(super) fn count(number: i64) -> Result<u32, SqlxError> {
    u32::try_from(number).map_err(SqlxError::decode)
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
