//! Claiming: the loop in which a worker and its store exchange what has ended for what is due.
//!
//! It looks, exchanges and rests, until the worker stops and the last delivery is settled. While an exchange is under way, what ends
//! gathers for the next one. It claims only while it has the right to (`turn`), which it leaves to the relay while it rests.

use std::{sync::Arc, time::Duration};

use tokio::sync::{MutexGuard, mpsc, watch};

use crate::{
    error::StoreError,
    health::Trouble,
    store::{Claim, Claims, Exchanged, Outcome, Settlement},
    time::{self, End, Instant},
};

use super::{
    Worker,
    capacity::BATCH,
    in_flight::Ended,
    settlement::{Settling, Then, note_late},
};

/// While more is due than was claimed, an exchange is worth more when more of it has ended: it waits so long for that.
const GATHER: Duration = Duration::from_millis(1);
/// What the relay has left until then, the worker looks for by itself.
const SOON: Duration = Duration::from_millis(20);
/// How long a worker waits without looking, though nothing seems to have changed.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// When the store is to be asked for more.
#[derive(Clone, Copy)]
enum Look {
    Now,
    At(Instant),
}

/// Whether the loop goes on.
enum Next {
    GoesOn,
    Ends,
}

struct Claiming<'w> {
    worker: &'w Arc<Worker>,
    /// Each delivery that runs has one too: `endings` ends after the last, once the worker stops and this is gone.
    ended: Option<mpsc::UnboundedSender<Ended>>,
    /// Unbounded, since an end that waited for room would keep its lease running, and bounded all the same: each is of a delivery that
    /// was claimed here and is not settled, and no more are claimed than slots are free and can be started soon (`capacity`).
    endings: mpsc::UnboundedReceiver<Ended>,
    settling: Settling,
    look: Look,
    /// What the store said last of its changes.
    mark: u64,
    /// The right to claim.
    turn: Option<MutexGuard<'w, ()>>,
    /// The store has refused an exchange: its settlements go without a claim, since the one or the other may be at fault.
    settles_alone: bool,
    trouble: Trouble,
    stopping: watch::Receiver<bool>,
    aborting: watch::Receiver<bool>,
}

impl Worker {
    /// Claims until the instance stops, and settles until nothing is in flight.
    pub(super) async fn claim_and_settle(self: &Arc<Self>) {
        let (ended, endings) = mpsc::unbounded_channel();
        self.take_endings(Some(ended.clone()));
        let claiming = Claiming {
            worker: self,
            ended: Some(ended),
            endings,
            settling: Settling::default(),
            look: Look::Now,
            mark: 0,
            turn: None,
            settles_alone: false,
            trouble: self.shared.instance.health.watch(format!("working off {}", self.name)),
            stopping: self.shared.stopping.clone(),
            aborting: self.shared.aborting.clone(),
        };
        claiming.run().await;
    }
}

impl Claiming<'_> {
    async fn run(mut self) {
        tokio::select! {
            // What a session claims that the store does not know yet could not be missed.
            () = self.worker.leases.registered() => {}
            _ = self.stopping.wait_for(|stop| *stop) => {}
        }
        loop {
            if *self.stopping.borrow() {
                self.ended = None;
                self.worker.take_endings(None);
            }
            self.gather_what_has_ended();
            self.take_turn().await;
            let claim = self.claim();
            let settlements = self.settling.settlements();
            let next = if settlements.is_empty() && claim.is_none() {
                self.rest().await
            } else {
                self.exchange(settlements, claim).await
            };
            if matches!(next, Next::Ends) {
                return;
            }
        }
    }

    fn gather_what_has_ended(&mut self) {
        self.settling.refill();
        while self.settling.takes_more(BATCH)
            && let Ok(one) = self.endings.try_recv()
        {
            self.settling.batch.push(one);
        }
    }

    /// Waits for the right to claim, unless something has ended, which can be settled without.
    async fn take_turn(&mut self) {
        if self.turn.is_some() || self.ended.is_none() {
            return;
        }
        if !self.settling.batch.is_empty() {
            self.turn = self.worker.claiming.try_lock().ok();
            return;
        }
        tokio::select! {
            biased;
            turn = self.worker.claiming.lock() => self.turn = Some(turn),
            _ = self.endings.recv_many(&mut self.settling.batch, BATCH) => {}
            _ = self.stopping.wait_for(|stop| *stop) => {}
        }
    }

    /// What there is room for, when it is time to look, or when something is settled anyway.
    fn claim(&self) -> Option<Claim> {
        let may = self.turn.is_some() && self.ended.is_some() && !*self.stopping.borrow();
        let rests = matches!(self.look, Look::At(at) if at > time::now()) && self.settling.batch.is_empty();
        if !may || rests || (self.settles_alone && !self.settling.batch.is_empty()) {
            return None;
        }
        self.worker.queues.wanted(self.settling.freed()).map(|queues| self.worker.claim(queues))
    }

    /// Waits for something to do.
    async fn rest(&mut self) -> Next {
        drop(self.settling.settled());
        if self.turn.take().is_none() && self.ended.is_some() {
            // There is room that nobody has claimed for.
            self.look = Look::Now;
            return Next::GoesOn;
        }
        let looks = match self.look {
            Look::Now => time::after(LOOK_MAX),
            Look::At(at) => at,
        };
        let wakes = self.settling.next().map_or(looks, |next| next.min(looks));
        let most = wakes.saturating_duration_since(time::now());
        let resting = self.ended.is_some() && matches!(self.look, Look::At(_));
        let mut nothing_runs = false;
        tokio::select! {
            gathered = self.endings.recv_many(&mut self.settling.batch, BATCH) => nothing_runs = gathered == 0,
            // Where nothing is claimed for want of room, a change is no reason to look.
            mark = self.worker.store.wait(self.mark, most), if resting => {
                self.mark = mark;
                if wakes >= looks {
                    self.look = Look::Now;
                }
            }
            () = self.worker.look_again.notified() => self.look = Look::Now,
            () = time::sleep(most), if self.settling.next().is_some() => {}
            _ = self.stopping.wait_for(|stop| *stop), if self.ended.is_some() => {}
        }
        if nothing_runs { self.end().await } else { Next::GoesOn }
    }

    /// Nothing runs any more. What stands aside is tried a last time.
    async fn end(&mut self) -> Next {
        let last = self.settling.aside_now();
        if last.is_empty() {
            return Next::Ends;
        }
        let _refused_again =
            self.worker.store.exchange(last.iter().filter_map(Ended::settlement).collect(), None).await;
        Next::Ends
    }

    async fn exchange(&mut self, settlements: Arc<[Settlement]>, claim: Option<Claim>) -> Next {
        let worker = self.worker;
        // Counted from before the store is asked, so that our end of the lease comes before the store's.
        let until = End::after(worker.shared.lease);
        let has_settlements = !settlements.is_empty();
        let exchanged = self.trouble.ask(worker.store.exchange(settlements, claim.clone())).await;
        worker.leases.note_answer(exchanged.is_ok(), worker.shared.lease);
        match exchanged {
            Ok(exchanged) => self.exchanged(exchanged, claim.is_some(), until).await,
            Err((wait, error)) => return self.failed(wait, &error, claim.as_ref(), has_settlements).await,
        }
        Next::GoesOn
    }

    async fn exchanged(&mut self, exchanged: Exchanged, has_claimed: bool, until: End) {
        let worker = self.worker;
        self.settles_alone = false;
        self.take_note(&exchanged);
        if !has_claimed {
            self.look = Look::Now;
            return;
        }
        worker.queues.ask_for_more();
        let Claims { deliveries, next_due, suspects } = exchanged.claims;
        if suspects {
            worker.suspicion.look();
        }
        let more = next_due == Some(Duration::ZERO);
        let waits = deliveries.is_empty() || !more;
        let next = || time::after(next_due.map_or(LOOK_MAX, |next| next.min(LOOK_MAX)));
        self.look = if waits { Look::At(next()) } else { Look::Now };
        let claimed = deliveries.len();
        if let Some(ended) = &self.ended {
            worker.start_all(deliveries, until, ended);
        }
        if more && claimed > 0 {
            self.gather(claimed / 2).await;
        }
    }

    async fn failed(&mut self, wait: Duration, error: &StoreError, claim: Option<&Claim>, settles: bool) -> Next {
        if let Some(claim) = claim {
            self.worker.queues.ask_for_fewer(claim);
        }
        if *self.aborting.borrow() {
            // What is not settled runs again when its lease ends.
            return Next::Ends;
        }
        if settles && !error.is_transient() {
            let with_claim = claim.is_some();
            self.settles_alone = true;
            if with_claim || self.settling.refused(error) == Then::Again {
                return Next::GoesOn;
            }
        }
        tokio::select! {
            () = time::sleep(wait) => {}
            _ = self.aborting.wait_for(|abort| *abort) => {}
        }
        Next::GoesOn
    }

    /// Under pressure, lets what ends gather for a moment: an exchange of many costs little more than one of few.
    async fn gather(&mut self, enough: usize) {
        let (endings, batch) = (&mut self.endings, &mut self.settling.batch);
        let gathering =
            async { while batch.len() < enough && endings.recv_many(batch, BATCH - batch.len()).await > 0 {} };
        let _in_time = time::within(GATHER, gathering).await;
    }

    /// Takes note of what an exchange settled, and of which catalogue the store has.
    fn take_note(&mut self, exchanged: &Exchanged) {
        let batch = self.settling.settled();
        note_late(&batch, &exchanged.held);
        // What ran in the outbox's database and is settled here cannot come again: that database may forget it in a while.
        let settled = batch.iter().filter(|ended| ended.outcome.is_some()).zip(&exchanged.held);
        let once =
            settled.filter(|(ended, held)| **held && ended.once && matches!(ended.outcome, Some(Outcome::Completed)));
        self.worker.shared.instance.note_settled(once.map(|(ended, _)| ended.lease.delivery));
        // Their room is given back before the next suspect is asked for.
        drop(batch);
        self.worker.suspicion.settled();
        if let Some(generation) = exchanged.generation {
            self.worker.look_at_generation(generation);
        }
    }
}

/// Room that is kept while the relay claims for it.
pub(crate) struct Offer<'w> {
    worker: &'w Arc<Worker>,
    _turn: MutexGuard<'w, ()>,
    ended: mpsc::UnboundedSender<Ended>,
    until: End,
    pub claim: Claim,
}

impl Worker {
    /// Lets the relay claim beside its own work, while the worker rests and has room.
    pub(crate) fn offer(self: &Arc<Self>) -> Option<Offer<'_>> {
        if *self.shared.stopping.borrow() || !self.leases.is_registered() {
            return None;
        }
        let turn = self.claiming.try_lock().ok()?;
        let ended = self.endings()?;
        let claim = self.claim(self.queues.wanted(std::iter::empty())?);
        Some(Offer { worker: self, _turn: turn, ended, until: End::after(self.shared.lease), claim })
    }
}

impl Offer<'_> {
    /// Starts what was claimed.
    pub(crate) fn start(self, claims: Claims) {
        if claims.suspects {
            self.worker.suspicion.look();
        }
        self.worker.start_all(claims.deliveries, self.until, &self.ended);
        if claims.next_due.is_some_and(|next| next <= SOON) {
            self.worker.look_again.notify_one();
        }
    }
}
