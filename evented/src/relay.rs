//! The relay: turns committed outbox events into deliveries.
//!
//! A row goes one of two ways. When all its deliveries stay in the outbox's database, as they do where the queue is one store
//! with it, the store replaces the row by them in one commit. Otherwise the same commit stores those that stay, leases the row
//! and writes which queue the rest goes to; the rest is pushed to that (`forward.rs`), and then the row is finished. A crash
//! between the two leaves the row to be taken again; the queue store remembers the events that it was pushed until the row is
//! gone, so the second push stores nothing, whatever became of the first.
//!
//! Turns go on while the queue is slow or away: what stays is stored, and what goes elsewhere is left for later. So the loop has
//! one state, the forwarder: at rest, or at work in a task of its own, on one batch or on the queue's clock.

mod forward;
mod unknown;

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;

use crate::{
    error::StoreError,
    plan::{Fact, Planned, Plans},
    store::{Elsewhere, Fan, Outbox, OutboxRow, Relay, Relayed},
    time,
    worker::{Shared, Worker},
};

use self::{
    forward::{Batch, Forwarder},
    unknown::Unknown,
};

/// At most so many rows in one turn.
const ROWS_MAX: usize = 500;
/// At most so many bytes of payloads in one turn.
const BYTES_MAX: usize = 16 << 20;
/// How long a turn waits for the forwarder before it goes on without.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long a row is left that needs a queue which is not known here, and the least for which one is left while the queue is
/// slow or away.
const QUEUE_LOOK: Duration = Duration::from_secs(1);
/// How long a row is left whose event no handler was ever recorded for, and which is not linked here: a release that is
/// still to come may know it, by an alias.
const UNKNOWN_LOOK: Duration = Duration::from_mins(1);
/// How long such rows are kept, from the first look at them: their delay is over then.
const UNKNOWN_RETENTION: Duration = Duration::from_hours(7 * 24);
/// How long the relay waits without looking, though nothing seems to have changed.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// The forwarder, at rest or at work.
enum Forwarding {
    Rests(Box<Forwarder>),
    Works(JoinHandle<Forwarder>),
    /// It panicked: a bug of ours, after which the instance stops.
    Gone,
}

impl Forwarding {
    fn start(&mut self, work: impl FnOnce(Forwarder) -> JoinHandle<Forwarder>) {
        if let Self::Rests(forwarder) = std::mem::replace(self, Self::Gone) {
            *self = Self::Works(work(*forwarder));
        }
    }

    /// Waits until it rests.
    async fn ended(&mut self) {
        if let Self::Works(task) = self {
            *self = match task.await {
                Ok(forwarder) => Self::Rests(Box::new(forwarder)),
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => Self::Gone,
                },
            };
        }
    }
}

/// Relays until the instance stops.
///
/// `worker` is the outbox's own: what is stored for it is claimed in the same commit.
pub(crate) async fn relay_until_stopped(shared: Shared, outbox: Outbox, worker: Option<Arc<Worker>>) {
    let mut stopping = shared.stopping.clone();
    let mut trouble = shared.instance.health.watch(format!("relaying from {}", outbox.about.name()));
    let mut forwarding = Forwarding::Rests(Box::new(Forwarder::new(&shared, &outbox)));
    let unknown = Arc::new(Unknown::new());
    let mut mark = 0;
    while !*stopping.borrow() {
        let wait = match trouble.ask(turn(&shared, &outbox, worker.as_ref(), &mut forwarding, &unknown)).await {
            Ok(relayed) => {
                if relayed.done + relayed.put_off + relayed.claimed.len() > 0 || relayed.catalogue_moved {
                    continue;
                }
                let most = relayed.next_due.map_or(LOOK_MAX, |next| next.min(LOOK_MAX));
                let (works, away) = match &forwarding {
                    Forwarding::Rests(forwarder) => (false, forwarder.away_for()),
                    _ => (true, Duration::ZERO),
                };
                tokio::select! {
                    now = outbox.queue.wait(mark, most) => mark = now,
                    // Rows may be leased again.
                    () = forwarding.ended(), if works => {}
                    () = time::sleep(away), if !works && !away.is_zero() => {}
                    _ = stopping.wait_for(|stop| *stop) => {}
                }
                continue;
            }
            Err((wait, _)) => wait,
        };
        tokio::select! {
            () = time::sleep(wait) => {}
            _ = stopping.wait_for(|stop| *stop) => {}
        }
    }
    forwarding.ended().await;
    if let Forwarding::Rests(forwarder) = forwarding {
        forwarder.close().await;
    }
}

async fn turn(
    shared: &Shared,
    outbox: &Outbox,
    worker: Option<&Arc<Worker>>,
    forwarding: &mut Forwarding,
    unknown: &Arc<Unknown>,
) -> Result<Relayed, StoreError> {
    let instance = &shared.instance;
    if let Forwarding::Rests(forwarder) = &mut *forwarding {
        forwarder.look_at_target().await;
        if forwarder.wants_clock() {
            forwarding.start(|forwarder| tokio::spawn(forwarder.read_clock()));
        }
    }
    let _in_time = time::within(PATIENCE, forwarding.ended()).await;
    let (until, away) = match &forwarding {
        Forwarding::Rests(forwarder) => (forwarder.until(), forwarder.away_for()),
        _ => (None, Duration::ZERO),
    };
    let plans = instance.plans();
    let generation = plans.outbox_generation;
    // A push to the outbox's own store could come after another relay's, and after the delivery that this one stored has
    // run: a transactional handler there is fenced by the delivery's row alone, and would write twice.
    let one_store = instance.is_one_store();
    let target = if one_store { Some(outbox.about.identity()) } else { instance.feeds() };
    let elsewhere = match until {
        _ if one_store => Elsewhere::Nothing,
        Some(_) => Elsewhere::Lease,
        None => Elsewhere::Leave(away.max(QUEUE_LOOK)),
    };
    let fan_out = {
        let (knows_queue, unknown) = (target.is_some(), Arc::clone(unknown));
        Arc::new(move |row: &OutboxRow| {
            let mut fan = fan_or_leave(row, &plans, knows_queue, &unknown);
            if one_store {
                fan.here.append(&mut fan.elsewhere);
            }
            fan
        })
    };
    let offer = worker.and_then(Worker::offer);
    let claim = offer.as_ref().map(|offer| offer.claim.clone());
    let relay =
        Relay { generation, rows: ROWS_MAX, bytes: BYTES_MAX, lease: shared.lease, target, elsewhere, fan_out, claim };
    let mut relayed = outbox.rows.relay(relay).await?;
    if let Some(offer) = offer {
        offer.start(std::mem::take(&mut relayed.claims));
    }
    if relayed.catalogue_moved {
        instance.refresh().await?;
    }
    if let (Some(until), false) = (until, relayed.claimed.is_empty()) {
        let rows = relayed.claimed.clone();
        forwarding.start(|forwarder| tokio::spawn(forwarder.forward(Batch { rows, until })));
    }
    Ok(relayed)
}

/// Who gets a row, or for how long it is left.
fn fan_or_leave(row: &OutboxRow, plans: &Plans, knows_queue: bool, unknown: &Unknown) -> Fan {
    let later = |later| Fan { later: Some(later), ..Fan::default() };
    if row.taken.is_some() {
        return fan(row, plans);
    }
    match plans.of(&row.event) {
        Some(plan) if !plan.background.is_empty() && !knows_queue => later(QUEUE_LOOK),
        Some(_) => fan(row, plans),
        None => {
            if unknown.meet(row) > UNKNOWN_RETENTION {
                tracing::error!(event = %row.event, event_id = %row.event_id,
                    "an event of the outbox is given up: no handler was recorded for it in {UNKNOWN_RETENTION:?}");
                return Fan::default();
            }
            tracing::warn!(event = %row.event, event_id = %row.event_id,
                "an event of the outbox waits: no handler was ever recorded for it, and its type is not linked here");
            later(UNKNOWN_LOOK)
        }
    }
}

/// Who gets a row. A linked event that no handler asks for has nobody to go to, and its row is done.
///
/// Of one that was taken before, the handlers that were written then, on whatever route they are by now: what was to stay then
/// is stored, and what went elsewhere may be stored there.
fn fan(row: &OutboxRow, plans: &Plans) -> Fan {
    let fact = Fact {
        id: row.event_id,
        origin: row.origin.clone(),
        version: row.version,
        emitted_unix_ms: Some(row.emitted_unix_ms),
        delay: Duration::ZERO,
        payload: &row.payload,
    };
    if let Some(taken) = &row.taken {
        let known = taken.handlers.iter().filter_map(|name| Some((name, plans.handler(name)?)));
        let elsewhere = known.map(|(name, planned)| planned.delivery_to(name, &fact)).collect();
        return Fan { elsewhere, ..Fan::default() };
    }
    let Some(plan) = plans.of(&row.event) else { return Fan::default() };
    let delivery = |planned: &Planned| planned.delivery(&fact);
    Fan {
        here: plan.outbox.iter().map(delivery).collect(),
        elsewhere: plan.background.iter().map(delivery).collect(),
        later: None,
    }
}
