//! The relay: turns committed outbox events into deliveries.
//!
//! A row goes one of two ways. When all its deliveries stay in the outbox's database, as they do where the queue is one store
//! with it, the store replaces the row by them in one commit. Otherwise the row is leased, its background deliveries are
//! pushed to the queue store, and only then is the row replaced by what stays. A crash between the two leaves the row to be
//! taken again; the queue store remembers the events that it was pushed until the row is gone, so the second push stores
//! nothing, whatever became of the first.

use std::{sync::Arc, time::Duration};

use crate::{
    error::StoreError,
    plan::{Fact, Planned, Plans},
    store::{Fan, OutboxRow, OutboxStore, Push, Pushed, Relay, Relayed},
    time,
    worker::{Shared, Worker},
};

/// At most so many rows in one turn.
const ROWS_MAX: usize = 500;
/// How long a row is left that needs a queue which is not open here: to a relay that has it, or until it is.
const QUEUE_LOOK: Duration = Duration::from_secs(1);
/// How long a row is left whose event no handler was ever recorded for, and which is not linked here: a release that is
/// still to come may know it, by an alias.
const UNKNOWN_LOOK: Duration = Duration::from_mins(1);
/// How long such rows are kept.
const UNKNOWN_RETENTION: Duration = Duration::from_hours(7 * 24);
/// How long the relay waits without looking, though nothing seems to have changed.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// Relays until the instance stops.
///
/// `worker` is the outbox's own: what is stored for it is claimed in the same commit.
pub(crate) async fn relay_until_stopped(shared: Shared, outbox: Arc<dyn OutboxStore>, worker: Option<Arc<Worker>>) {
    let mut stopping = shared.stopping.clone();
    let mut trouble = shared.instance.health.watch(format!("relaying from {}", outbox.name()));
    let mut mark = 0;
    while !*stopping.borrow() {
        let wait = match trouble.ask(turn(&shared, &*outbox, worker.as_ref())).await {
            Ok(relayed) => {
                if relayed.done + relayed.claimed.len() > 0 || relayed.catalogue_moved {
                    continue;
                }
                let most = relayed.next_due.map_or(LOOK_MAX, |next| next.min(LOOK_MAX));
                tokio::select! {
                    now = outbox.wait(mark, most) => mark = now,
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
}

async fn turn(shared: &Shared, outbox: &dyn OutboxStore, worker: Option<&Arc<Worker>>) -> Result<Relayed, StoreError> {
    let instance = &shared.instance;
    let plans = instance.plans();
    let generation = plans.outbox_generation;
    let has_queue = instance.queue().is_some();
    // A push to the outbox's own store could come after another relay's, and after the delivery that this one stored has
    // run: a transactional handler there is fenced by the delivery's row alone, and would write twice.
    let one_store = instance.queue().is_some_and(|queue| queue.name() == outbox.name());
    let fan_out = Arc::new(move |row: &OutboxRow| {
        let mut fan = fan_or_leave(row, &plans, has_queue);
        if one_store {
            fan.here.append(&mut fan.elsewhere);
        }
        fan
    });
    let offer = worker.and_then(Worker::offer);
    let claim = offer.as_ref().map(|offer| offer.claim.clone());
    let mut relayed = outbox.relay(Relay { generation, rows: ROWS_MAX, lease: shared.lease, fan_out, claim }).await?;
    if let Some(offer) = offer {
        offer.start(std::mem::take(&mut relayed.claims));
    }
    if relayed.catalogue_moved {
        instance.refresh().await?;
    }
    if !relayed.claimed.is_empty() {
        forward(shared, outbox, &relayed.claimed).await?;
    }
    Ok(relayed)
}

/// Pushes the background deliveries of leased rows, then replaces the rows by the deliveries that stay.
async fn forward(shared: &Shared, outbox: &dyn OutboxStore, rows: &[OutboxRow]) -> Result<(), StoreError> {
    let instance = &shared.instance;
    let queue = instance.queue().expect("a relay without a queue takes no row that needs one");
    let mut trouble = instance.health.watch(format!("pushing relayed events to {}", queue.name()));
    // Well before the rows' lease ends: another relay may take them then.
    let until = time::after(shared.lease / 2);
    let fans: Vec<Fan> = loop {
        let plans = instance.plans();
        let fans: Vec<_> = rows.iter().map(|row| fan(row, &plans)).collect();
        let deliveries = fans.iter().flat_map(|fan| fan.elsewhere.iter().cloned()).collect();
        match trouble.ask(queue.push(Push { generation: plans.queue_generation, once: true, deliveries })).await {
            Ok(Pushed::Stored) => break fans,
            Ok(Pushed::CatalogueMoved) => instance.refresh().await?,
            Err((wait, _)) if time::now() < until && !*shared.stopping.borrow() => time::sleep(wait).await,
            Err((_, error)) => return Err(error),
        }
    };
    let pushed: Vec<Vec<_>> =
        fans.iter().map(|fan| fan.elsewhere.iter().map(|delivery| delivery.id).collect()).collect();
    let kept = rows.iter().cloned().zip(fans.into_iter().map(|fan| fan.here)).collect();
    let finished = outbox.finish(kept).await?;
    // A row that another relay has now is pushed again by it, and must still be remembered.
    let done = pushed.into_iter().zip(finished).filter(|(_, finished)| *finished).flat_map(|(ids, _)| ids);
    queue.forget(done.collect()).await
}

/// Who gets a row, or for how long it is left.
fn fan_or_leave(row: &OutboxRow, plans: &Plans, has_queue: bool) -> Fan {
    let later = |later| Fan { later: Some(later), ..Fan::default() };
    match plans.of(&row.event) {
        Some(plan) if !plan.background.is_empty() && !has_queue => later(QUEUE_LOOK),
        Some(_) => fan(row, plans),
        None => {
            if time::since(row.emitted_unix_ms) > UNKNOWN_RETENTION {
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
fn fan(row: &OutboxRow, plans: &Plans) -> Fan {
    let Some(plan) = plans.of(&row.event) else { return Fan::default() };
    let fact = Fact {
        id: row.event_id,
        origin: row.origin.clone(),
        version: row.version,
        emitted_unix_ms: Some(row.emitted_unix_ms),
        delay: Duration::ZERO,
        payload: &row.payload,
    };
    let delivery = |planned: &Planned| planned.delivery(&fact);
    Fan {
        here: plan.outbox.iter().map(delivery).collect(),
        elsewhere: plan.background.iter().map(delivery).collect(),
        later: None,
    }
}
