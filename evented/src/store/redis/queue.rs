//! Deliveries under way: settled, claimed, and their leases renewed.

use std::{collections::HashMap, sync::Arc, time::Duration};

use redis::{Cmd, Value};

use crate::{
    error::StoreError,
    id::{DeliveryId, LeaseToken, SessionId},
    store::{Blame, Claim, Claimed, Claims, Exchanged, Lapsed, Lease, Outcome, Settlement},
    time,
};

use super::{
    body,
    changes::Changes,
    link::Link,
    script::{EXCHANGE, EXTEND, bytes, count, digits, int, list, strange, text, tuple},
};

/// A number of deliveries that stands for all.
pub(super) const MANY: usize = 1_000_000;

/// What an exchange found out beside its answer.
pub(super) struct Found {
    pub exchanged: Exchanged,
    /// Deliveries that had lost their bodies, and were dropped.
    pub dropped: u64,
    /// The store's name as the server has it, where something was to be claimed; `None` where it has lost that.
    pub identity: Option<String>,
    /// The server has lost a part of the catalogue.
    pub lacks_lane: bool,
}

pub(super) async fn exchange(
    link: &Link,
    changes: &Changes,
    settlements: &[Settlement],
    claim: Option<&Claim>,
) -> Result<Found, StoreError> {
    let token = LeaseToken::mint();
    let plan = Plan::of(settlements);
    let answer = link
        .call(&EXCHANGE, |command| {
            command.arg(changes.origin());
            fill(command, token, &plan, settlements, claim);
        })
        .await?;
    let [held, wait, dropped, generation, identity, lacks_lane, groups, suspects] = tuple(answer)?;
    let held = plan.held(&bytes(held)?, settlements.len())?;
    let wait = int(&wait)?;
    let next_due = (wait >= 0).then(|| Duration::from_micros(wait.cast_unsigned()));
    let deliveries = match claim {
        Some(claim) => claimed(claim, token, list(groups)?)?,
        None => Vec::new(),
    };
    let claims = Claims { deliveries, next_due, suspects: int(&suspects)? == 1 };
    let (generation, identity) = (text(generation)?, text(identity)?);
    let generation =
        (!generation.is_empty()).then(|| digits(Value::BulkString(generation.into_bytes()))).transpose()?;
    Ok(Found {
        exchanged: Exchanged { held, claims, generation },
        dropped: count(&dropped)?,
        identity: (!identity.is_empty()).then_some(identity),
        lacks_lane: int(&lacks_lane)? == 1,
    })
}

/// The settlements in the order in which the script takes them, by their places: plain completions together, by lease.
struct Plan {
    groups: Vec<([u8; 16], Vec<usize>)>,
    others: Vec<usize>,
}

impl Plan {
    fn of(settlements: &[Settlement]) -> Self {
        let plain =
            |settlement: &Settlement| matches!(settlement.outcome, Outcome::Completed) && !settlement.lease.ordered;
        let (together, others) = (0..settlements.len()).partition(|at| plain(&settlements[*at]));
        let together: Vec<usize> = together;
        Self { groups: by_lease(together.into_iter().map(|at| (at, &settlements[at].lease))), others }
    }

    /// What the script said of each, in the order of the settlements.
    fn held(&self, said: &[u8], settlements: usize) -> Result<Vec<bool>, StoreError> {
        put_back(&self.groups, &self.others, said, settlements)
    }
}

/// Places by what the server keeps as their leases.
fn by_lease<'l>(leases: impl Iterator<Item = (usize, &'l Lease)>) -> Vec<([u8; 16], Vec<usize>)> {
    let mut groups: Vec<([u8; 16], Vec<usize>)> = Vec::new();
    let mut places: HashMap<[u8; 16], usize> = HashMap::new();
    for (at, lease) in leases {
        let lease = lease_bytes(lease);
        let place = *places.entry(lease).or_insert_with(|| {
            groups.push((lease, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(at);
    }
    groups
}

fn put_back(
    groups: &[([u8; 16], Vec<usize>)],
    others: &[usize],
    said: &[u8],
    count: usize,
) -> Result<Vec<bool>, StoreError> {
    if said.len() != count {
        return Err(strange(&Value::BulkString(said.to_vec())));
    }
    let mut held = vec![false; count];
    let places = groups.iter().flat_map(|(_, places)| places).chain(others);
    for (at, said) in places.zip(said) {
        held[*at] = *said == b'1';
    }
    Ok(held)
}

/// The token, and then where the delivery lies: the numbers of its handler and of its payload's version.
fn lease_bytes(lease: &Lease) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&lease.token.to_i64().to_be_bytes());
    bytes[8..].copy_from_slice(&lease.row.to_be_bytes());
    bytes
}

pub(super) fn session_bytes(session: SessionId) -> [u8; 8] {
    session.to_i64().to_be_bytes()
}

/// The arguments of exchange.lua, after the first.
fn fill(command: &mut Cmd, token: LeaseToken, plan: &Plan, settlements: &[Settlement], claim: Option<&Claim>) {
    let lease = claim.map_or(Duration::ZERO, |claim| claim.lease);
    let session = claim.map(|claim| session_bytes(claim.session)).unwrap_or_default();
    let takes_ended = claim.is_some_and(|claim| claim.lapsed == Lapsed::Take);
    command.arg(&token.to_i64().to_be_bytes()).arg(time::micros(lease)).arg(&session).arg(u8::from(takes_ended));
    command.arg(plan.groups.len());
    for (lease, places) in &plan.groups {
        command.arg(lease).arg(places.len());
        for at in places {
            command.arg(&settlements[*at].lease.delivery.to_bytes());
        }
    }
    command.arg(plan.others.len());
    for Settlement { lease, outcome } in plan.others.iter().map(|at| &settlements[*at]) {
        let (kind, number, text) = match outcome {
            Outcome::Completed => ("completed", 0, ""),
            Outcome::Retry { delay, error } => ("retry", time::micros(*delay), &**error),
            Outcome::Dead { failed, error } => ("dead", i64::from(*failed), &**error),
            Outcome::Released => ("released", 0, ""),
        };
        command.arg(kind).arg(&lease_bytes(lease)).arg(&lease.delivery.to_bytes()).arg(number).arg(text);
    }
    let queues = claim.map_or(&[][..], |claim| &claim.queues);
    command.arg(queues.len());
    for queue in queues {
        command.arg(&*queue.name).arg(queue.wanted.min(MANY)).arg(queue.handlers.len());
        for handler in &queue.handlers {
            command.arg(&*handler.name).arg(handler.version).arg(handler.priority as u8).arg(handler.wanted.min(MANY));
        }
    }
}

/// What was claimed: by priority, and in turn from the handlers of one, as it is to be started.
fn claimed(claim: &Claim, token: LeaseToken, groups: Vec<Value>) -> Result<Vec<Claimed>, StoreError> {
    let mut lists: Vec<Vec<Vec<Claimed>>> =
        claim.queues.iter().map(|queue| vec![Vec::new(); queue.handlers.len()]).collect();
    for group in groups {
        let [queue, handler, num, version, ids, bodies, failed] = tuple(group)?;
        let (queue, handler): (usize, usize) = (count(&queue)?, count(&handler)?);
        let asked = queue.checked_sub(1).zip(handler.checked_sub(1));
        let known = asked.and_then(|(queue, handler)| {
            let name = &claim.queues.get(queue)?.handlers.get(handler)?.name;
            Some((name, &mut lists[queue][handler]))
        });
        let (name, list) = known.ok_or_else(|| strange(&Value::Int(0)))?;
        read_group(name, token, [&num, &version], &bytes(ids)?, self::list(bodies)?, &self::list(failed)?, list)?;
    }
    let mut claimed = Vec::new();
    for (queue, mut lists) in claim.queues.iter().zip(lists) {
        let mut priorities: Vec<_> = queue.handlers.iter().map(|handler| handler.priority).collect();
        priorities.sort_unstable_by(|a, b| b.cmp(a));
        priorities.dedup();
        for priority in priorities {
            let of_it = queue.handlers.iter().zip(&mut lists).filter(|(handler, _)| handler.priority == priority);
            let mut of_it: Vec<_> = of_it.map(|(_, list)| std::mem::take(list).into_iter()).collect();
            while !of_it.is_empty() {
                of_it.retain_mut(|list| list.next().map(|next| claimed.push(next)).is_some());
            }
        }
    }
    Ok(claimed)
}

fn read_group(
    name: &Arc<str>,
    token: LeaseToken,
    [num, version]: [&Value; 2],
    ids: &[u8],
    bodies: Vec<Value>,
    failed: &[Value],
    list: &mut Vec<Claimed>,
) -> Result<(), StoreError> {
    let (ids, rest) = ids.as_chunks::<16>();
    if ids.len() != bodies.len() || !rest.is_empty() {
        return Err(strange(&Value::Array(bodies)));
    }
    let first = list.len();
    for (id, stored) in ids.iter().zip(bodies) {
        list.push(read_claimed(name, token, [num, version], *id, stored)?);
    }
    let (failed, _) = failed.as_chunks::<2>();
    for [place, failed] in failed {
        let place: usize = count(place)?;
        let claimed = list.get_mut(first + place.saturating_sub(1)).ok_or_else(|| strange(failed))?;
        claimed.failed = count(failed)?;
    }
    Ok(())
}

/// One that has not failed, and against which nothing is held.
pub(super) fn read_claimed(
    name: &Arc<str>,
    token: LeaseToken,
    [num, version]: [&Value; 2],
    id: [u8; 16],
    stored: Value,
) -> Result<Claimed, StoreError> {
    let (num, version): (u32, u32) = (count(num)?, count(version)?);
    let row = i64::from(num) << 32 | i64::from(version);
    let stored = bytes(stored)?;
    let body = body::unpack(&stored).ok_or_else(|| strange(&Value::BulkString(id.to_vec())))?;
    Ok(Claimed {
        lease: Lease { delivery: DeliveryId::from_bytes(id), row, token, ordered: body.ordered },
        event_id: body.event_id,
        handler: Arc::clone(name),
        origin: body.origin,
        version,
        emitted_unix_ms: body.emitted_unix_ms,
        failed: 0,
        blame: Blame::default(),
        policy: body.policy,
        payload: body.payload,
    })
}

pub(super) async fn extend(
    link: &Link,
    session: SessionId,
    leases: &[Lease],
    lease: Duration,
) -> Result<Vec<bool>, StoreError> {
    let groups = by_lease(leases.iter().enumerate());
    let fill = |command: &mut Cmd| {
        command.arg(&session_bytes(session)).arg(time::micros(lease)).arg(groups.len());
        for (lease, places) in &groups {
            command.arg(lease).arg(places.len());
            for at in places {
                command.arg(&leases[*at].delivery.to_bytes());
            }
        }
    };
    let said = bytes(link.call(&EXTEND, fill).await?)?;
    put_back(&groups, &[], &said, leases.len())
}
