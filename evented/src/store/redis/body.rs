//! The immutable part of a delivery, as a value of the server: a header of fixed order, then the payload.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | when the event was emitted, in milliseconds since 1970; the script puts it before what [`pack`] makes |
//! | 1 | flags: `ORDERED`, `EXPONENTIAL`, `LED` |
//! | 16 | the order key, where `ORDERED`: the scripts read it here |
//! | 16 | the event's id |
//! | 4, 8, 8 | attempts, first wait and time limit of the policy, in milliseconds |
//! | 8 | the longest wait, where `EXPONENTIAL`: else the wait is fixed |
//! | 2, so many | the bytes of the event's `Origin`, where `LED`: else nothing led to it |
//! | rest | the payload |
//!
//! All numbers have the highest byte first.

use crate::{
    id::EventId,
    origin::Origin,
    retry::{Backoff, Policy},
    store::{NewDelivery, Payload},
    time,
};

const ORDERED: u8 = 128;
const EXPONENTIAL: u8 = 2;
const LED: u8 = 1;

/// A stored value, taken apart.
pub(super) struct Body {
    pub emitted_unix_ms: i64,
    pub ordered: bool,
    pub event_id: EventId,
    pub origin: Origin,
    pub policy: Policy,
    pub payload: Payload,
}

pub(super) fn pack(delivery: &NewDelivery) -> Vec<u8> {
    let mut body = Vec::with_capacity(80 + delivery.payload.len());
    let origin = delivery.origin.to_bytes(delivery.event_id);
    let (first, max) = match delivery.policy.backoff {
        Backoff::Exponential { first, max } => (first, Some(max)),
        Backoff::Fixed(wait) => (wait, None),
    };
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    body.push(flag(delivery.order.is_some(), ORDERED) | flag(max.is_some(), EXPONENTIAL) | flag(origin.is_some(), LED));
    if let Some(key) = delivery.order {
        body.extend(key.to_bytes());
    }
    body.extend(delivery.event_id.to_bytes());
    body.extend(delivery.policy.attempts_max.to_be_bytes());
    body.extend(time::millis(first).to_be_bytes());
    body.extend(time::millis(delivery.policy.timeout).to_be_bytes());
    if let Some(max) = max {
        body.extend(time::millis(max).to_be_bytes());
    }
    if let Some(origin) = origin {
        // A trace has a limit, far below this one.
        let length = u16::try_from(origin.len()).unwrap_or(u16::MAX);
        body.extend(length.to_be_bytes());
        body.extend(origin.into_iter().take(length.into()));
    }
    body.extend_from_slice(&delivery.payload);
    body
}

/// `None` when these are no bytes of ours.
pub(super) fn unpack(stored: &[u8]) -> Option<Body> {
    let mut rest = stored;
    let emitted_unix_ms = i64::from_be_bytes(take(&mut rest)?);
    let [flags] = take(&mut rest)?;
    let ordered = flags & ORDERED != 0;
    if ordered {
        take::<16>(&mut rest)?;
    }
    let event_id = EventId::from_bytes(take(&mut rest)?);
    let attempts_max = u32::from_be_bytes(take(&mut rest)?);
    let first = time::from_millis(i64::from_be_bytes(take(&mut rest)?));
    let timeout = time::from_millis(i64::from_be_bytes(take(&mut rest)?));
    let backoff = if flags & EXPONENTIAL == 0 {
        Backoff::Fixed(first)
    } else {
        Backoff::Exponential { first, max: time::from_millis(i64::from_be_bytes(take(&mut rest)?)) }
    };
    let origin = if flags & LED == 0 {
        Origin::of(event_id)
    } else {
        let length = u16::from_be_bytes(take(&mut rest)?);
        let (origin, after) = rest.split_at_checked(length.into())?;
        rest = after;
        Origin::from_bytes(event_id, Some(origin))
    };
    let policy = Policy { attempts_max, backoff, timeout };
    Some(Body { emitted_unix_ms, ordered, event_id, origin, policy, payload: rest.into() })
}

/// The next bytes.
pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}
