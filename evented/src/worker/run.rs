//! The run: one claimed delivery, from its turn to what its end means.
//!
//! It waits for a slot. Then all that is the application's happens:
//! its event is decoded and its handler runs, in a transaction, on the blocking pool or as a future. At each hand-over it is
//! asked whether the lease is still held.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use tokio::sync::OwnedSemaphorePermit;
use tracing::{Instrument as _, Span};

use crate::{
    def::ErasedCall,
    delivery::{Delivery, Starting},
    error::{HandlerResult, StoreError, in_one_line},
    guard::guarded,
    instance::{SCOPE, Scope},
    origin::Cause,
    registry::{Linked, registry},
    retry::Policy,
    store::{Blame, CHARGES_MAX, Claimed, INBOX_RETENTION, Outbox, Outcome, TxEnd},
    time,
};

use super::{
    Worker,
    attempt::{Decoded, Interrupt, Interrupts, run_async, run_blocking, run_in_tx},
    lease::Hold,
    turn::{BlockingSlot, Waiting},
    verdict::{decode, judge, judge_dead, note_lost},
};

/// How long a delivery waits whose transaction could not be begun or committed.
const TX_TROUBLE: Duration = Duration::from_secs(1);
/// What one attempt is made of.
struct Attempt {
    index: usize,
    policy: Policy,
    event: Decoded,
    delivery: Delivery,
    scope: Scope,
    span: Span,
    hold: Arc<Hold>,
}

impl Worker {
    /// Runs one delivery; `None` when there is nothing to settle: its lease was lost, or it settled itself.
    pub(super) async fn run(
        self: &Arc<Self>,
        index: usize,
        waiting: Waiting,
        claimed: &Claimed,
        hold: Arc<Hold>,
    ) -> Option<Outcome> {
        let queue = &self.queues.list[waiting.queue];
        let handler = &registry().handlers[index];
        let stored = handler.stored.expect("a worker claims stored handlers only");
        let policy = stored.policy;
        if claimed.blame.charges >= CHARGES_MAX {
            return Some(judge_dead(handler, claimed, claimed.failed, story(claimed.blame)));
        }
        if handler.takes_tx() && self.outbox.is_none() && is_forgotten(claimed) {
            let error = format!(
                "it is older than {INBOX_RETENTION:?}, and its database does not remember any more whether it ran in it"
            );
            return Some(judge_dead(handler, claimed, claimed.failed, error));
        }
        let mut stopping = self.shared.stopping.clone();
        let slot = tokio::select! {
            // Most find a slot at once, and then nothing else is asked.
            biased;
            slot = Arc::clone(&queue.slots).acquire_owned() => slot.expect("slots are never closed"),
            () = hold.lost() => return Some(note_lost(handler, claimed)),
            // What has not been started when the worker stops is given back at once.
            _ = stopping.wait_for(|stop| *stop) => return Some(Outcome::Released),
        };
        drop(waiting);
        if hold.is_lost() {
            return Some(note_lost(handler, claimed));
        }
        if claimed.blame != Blame::default() {
            let Blame { deaths, charges } = claimed.blame;
            tracing::warn!(handler = %handler.id, place = %handler.place, delivery = %claimed.lease.delivery,
                event_id = %claimed.event_id, deaths, charges, "a suspect runs: its process died the last time");
        }
        // Here, where a death is counted: what the application's `Deserialize` does to the process is its payload's doing, too.
        let event = match decode(stored, claimed) {
            Ok(event) => event,
            Err(error) => return Some(judge_dead(handler, claimed, claimed.failed, error)),
        };
        let began = time::now();
        let delivery = Delivery::new(Starting {
            id: claimed.lease.delivery,
            event_id: claimed.event_id,
            origin: claimed.origin.clone(),
            attempt: claimed.failed.saturating_add(1),
            attempts_max: policy.attempts_max,
            emitted_unix_ms: claimed.emitted_unix_ms,
            timeout: self.timeout(handler, policy),
        });
        let scope = Scope {
            instance: Arc::clone(&self.shared.instance),
            cause: Some(Cause::new(claimed.event_id, &claimed.origin)),
            in_tx: handler.takes_tx(),
        };
        let span = self.span(handler, claimed);
        let attempt = Attempt { index, policy, event, delivery: delivery.clone(), scope, span, hold };
        let ended = match self.database() {
            Some(outbox) if handler.takes_tx() => {
                let end = self.attempt_in_tx(outbox, stored.call, attempt, claimed).await;
                delivery.cancel();
                match end {
                    Ok(TxEnd::Committed) => {
                        queue.note_run(began.elapsed());
                        // Beside the handler's data, the delivery was settled in the same commit.
                        return self.outbox.is_none().then_some(Outcome::Completed);
                    }
                    Ok(TxEnd::Lost) => {
                        // The store says so. It is not given back: what loses its lease each time it runs would run without a pause.
                        let _later = note_lost(handler, claimed);
                        return None;
                    }
                    Ok(TxEnd::Failed(error)) => Err(error),
                    // Nothing changes until somebody changes something: what waits behind it must not wait for ever.
                    Err(error) if !error.is_transient() => Err(error.into()),
                    Err(error) => {
                        // Not the handler's fault, so no attempt is counted. If the commit went through after all, the
                        // release comes late and changes nothing, or the database remembers that it ran.
                        tracing::warn!(handler = %handler.id, delivery = %claimed.lease.delivery,
                            error = %in_one_line(&error), "a handler's transaction could not be run; it will be again");
                        time::sleep(TX_TROUBLE).await;
                        return Some(Outcome::Released);
                    }
                }
            }
            _ if stored.call.is_async() => {
                let interrupts = self.interrupts(policy.timeout, &delivery, &attempt.hold);
                let running =
                    run_async(stored.call, attempt.event, attempt.delivery, attempt.scope.instance.clone(), None);
                SCOPE.scope(attempt.scope, interrupts.or(running)).instrument(attempt.span).await
            }
            _ => self.attempt_blocking(stored.call, attempt, claimed, slot).await?,
        };
        // What the handler may have left running elsewhere can see that the attempt is over.
        delivery.cancel();
        queue.note_run(began.elapsed());
        if ended.is_ok() && began.elapsed() > policy.timeout {
            tracing::warn!(handler = %handler.id, place = %handler.place, took = ?began.elapsed(), timeout = ?policy.timeout,
                "a handler went past its timeout without yielding; make it a plain `fn`, which runs on the blocking pool");
        }
        Some(judge(handler, policy, claimed, ended))
    }

    /// The span of one attempt, in which the handler runs.
    fn span(&self, handler: &Linked, claimed: &Claimed) -> Span {
        let span = tracing::info_span!("delivery", handler = %handler.id, delivery = %claimed.lease.delivery,
            event_id = %claimed.event_id, correlation = %claimed.origin.correlation, attempt = claimed.failed.saturating_add(1));
        if let (Some(traces), Some(trace)) = (&self.shared.instance.traces, &claimed.origin.trace) {
            // What cannot be traced is run all the same.
            let _linked = guarded(|| traces.link(&span, trace));
        }
        span
    }

    async fn attempt_in_tx(
        &self,
        outbox: &Outbox,
        call: &'static dyn ErasedCall,
        attempt: Attempt,
        claimed: &Claimed,
    ) -> Result<TxEnd, StoreError> {
        let timeout = self.timeout(&registry().handlers[attempt.index], attempt.policy);
        let interrupts = self.interrupts(timeout, &attempt.delivery, &attempt.hold);
        let Attempt { event, delivery, scope, span, .. } = attempt;
        let beside = self.outbox.is_some();
        run_in_tx(outbox, beside.then_some(claimed.lease), call, event, delivery, scope, interrupts)
            .instrument(span)
            .await
    }

    /// The database that transactional handlers run in: this store's own, or one beside which their deliveries are not.
    fn database(&self) -> Option<&Outbox> {
        self.outbox.as_ref().or(self.shared.instance.outbox.as_ref())
    }

    /// Runs a plain function, which nothing can stop. When its time is up, its attempt has failed; but until it returns it
    /// keeps its slot and its lease, so that no second run goes beside it. `None` when the process ends: the lease ends by itself
    /// then.
    async fn attempt_blocking(
        self: &Arc<Self>,
        call: &'static dyn ErasedCall,
        attempt: Attempt,
        claimed: &Claimed,
        slot: OwnedSemaphorePermit,
    ) -> Option<HandlerResult> {
        let Attempt { index, policy, event, delivery, scope, span, hold } = attempt;
        let slot = BlockingSlot { slot: Some(slot), worker: Arc::clone(self), handler: index };
        self.shared.instance.blocking.enter(index);
        let mut running = pin!(run_blocking(call, event, delivery.clone(), scope, span, Arc::clone(&hold), slot));
        let ended = self.interrupts(policy.timeout, &delivery, &hold).or(&mut running).await;
        // It may look whether its time is over.
        delivery.cancel();
        match ended.as_ref().err().and_then(|error| error.downcast_ref()) {
            Some(Interrupt::TimedOut(_)) => {
                let handler = &registry().handlers[index];
                tracing::warn!(handler = %handler.id, place = %handler.place, timeout = ?policy.timeout,
                    delivery = %claimed.lease.delivery, "a blocking handler's time is up, but it still runs; it keeps its \
                    slot and its lease until it returns, and should look at `Delivery::is_cancelled`");
                self.until_returned(running).await?;
                Some(ended)
            }
            // What still runs here is not given to others.
            Some(Interrupt::Lost) => {
                self.until_returned(running).await?;
                Some(ended)
            }
            // Nobody died, though the function goes on under its lease until the process ends.
            Some(Interrupt::Stopped) => None,
            None => Some(ended),
        }
    }

    /// Waits for a function that goes on; `None` when the process ends before it.
    async fn until_returned(&self, running: Pin<&mut impl Future<Output = HandlerResult>>) -> Option<()> {
        let mut aborting = self.shared.aborting.clone();
        tokio::select! {
            _returned = running => Some(()),
            _ = aborting.wait_for(|abort| *abort) => None,
        }
    }

    /// How long an attempt may take.
    fn timeout(&self, handler: &Linked, policy: Policy) -> Duration {
        match self.database() {
            Some(outbox) if handler.takes_tx() => {
                policy.timeout.min(outbox.about.limits().locks.tx_max(self.shared.lease))
            }
            _ => policy.timeout,
        }
    }

    fn interrupts(&self, timeout: Duration, delivery: &Delivery, hold: &Arc<Hold>) -> Interrupts {
        let (delivery, hold) = (delivery.clone(), Arc::clone(hold));
        Interrupts { timeout, delivery, hold, aborting: self.shared.aborting.clone() }
    }
}

/// What a dead letter says of the deaths that made it one.
fn story(Blame { deaths, charges }: Blame) -> String {
    let before = deaths.saturating_sub(charges);
    format!(
        "{deaths} processes died while they had this delivery: {before} beside other work, then {charges} that tried it as the only \
         suspect; all that had died with it was settled since. A machine that kills its processes again and again for another \
         reason looks the same: requeue it then"
    )
}

/// Whether the database of transactional handlers may have forgotten that a delivery of another store ran in it.
fn is_forgotten(claimed: &Claimed) -> bool {
    time::since(claimed.emitted_unix_ms) > INBOX_RETENTION
}
