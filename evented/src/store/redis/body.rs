//! The immutable part of a delivery, as a value of the server: a header of fixed order, then the payload.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | when the event was emitted, in milliseconds since 1970; the script puts it before what [`pack`] makes |
//! | 1 | flags: `ORDERED`, `EXPONENTIAL`, `CORRELATED` |
//! | 16 | the order key, where `ORDERED`: the scripts read it here |
//! | 16 | the event's id |
//! | 4, 8, 8 | attempts, first wait and time limit of the policy, in milliseconds |
//! | 8 | the longest wait, where `EXPONENTIAL`: else the wait is fixed |
//! | 16 | the event that began the chain, where `CORRELATED`: else the event itself |
//! | rest | the payload |
//!
//! All numbers have the highest byte first.

use crate::{
    id::EventId,
    retry::{Backoff, Policy},
    store::NewDelivery,
    time,
};

const ORDERED: u8 = 128;
const EXPONENTIAL: u8 = 2;
const CORRELATED: u8 = 1;

/// A stored value, taken apart.
pub(super) struct Body {
    pub emitted_unix_ms: i64,
    pub ordered: bool,
    pub event_id: EventId,
    pub correlation: EventId,
    pub policy: Policy,
    pub payload: Vec<u8>,
}

pub(super) fn pack(delivery: &NewDelivery) -> Vec<u8> {
    let mut body = Vec::with_capacity(80 + delivery.payload.len());
    let correlated = delivery.correlation != delivery.event_id;
    let (first, max) = match delivery.policy.backoff {
        Backoff::Exponential { first, max } => (first, Some(max)),
        Backoff::Fixed(wait) => (wait, None),
    };
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    body.push(
        flag(delivery.order.is_some(), ORDERED) | flag(max.is_some(), EXPONENTIAL) | flag(correlated, CORRELATED),
    );
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
    if correlated {
        body.extend(delivery.correlation.to_bytes());
    }
    body.extend_from_slice(&delivery.payload);
    body
}

/// `None` when these are no bytes of ours.
pub(super) fn unpack(mut stored: Vec<u8>) -> Option<Body> {
    let mut rest = &stored[..];
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
    let correlation = if flags & CORRELATED == 0 { event_id } else { EventId::from_bytes(take(&mut rest)?) };
    // What came from the network is the payload's own memory.
    let header = stored.len() - rest.len();
    stored.drain(..header);
    let policy = Policy { attempts_max, backoff, timeout };
    Some(Body { emitted_unix_ms, ordered, event_id, correlation, policy, payload: stored })
}

/// The next bytes.
pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}
