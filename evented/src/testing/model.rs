//! The model store: the contract of a queue store in code.
//!
//! It is the specification, to be read beside the docs of [`store`](crate::store): each rule stands in one place, with its sentence. It
//! keeps all in memory and behind one lock, so that there is nothing to say about crashes, commits and locks; what it answers at a
//! time is what every store answers. It passes the [suite](super), and other stores are compared with it, one random call
//! after the other.
//!
//! It is written with the public API of `store` alone, as a store of your own is.

mod kept;
mod catalogue;
mod push;
mod sessions;
mod settle;
mod claim;
mod suspects;
mod admin;

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    error::StoreError,
    id::{EventId, SessionId},
    store::{
        About, AdminStore, CatalogueState, CatalogueStore, Claim, DeadLetter, Exchanged, Identity, Lease, Letters,
        Limits, Locks, Pending, Push, Pushed, QueueStore, Record, Retention, Settlement, Stats, Step, Store, StoreTime,
        Suspected, Suspects, Swap, Swept, Term,
    },
};

use self::kept::Kept;
use super::{Clock, Site};

/// A queue store in memory: for tests, and to see what a store is. What it has is gone when its process ends.
///
/// ```
/// # async fn example() -> Result<(), evented::StoreError> {
/// use std::time::Duration;
/// use evented::testing::{Clock, Model};
///
/// let clock = Clock::by_hand();
/// let store = Model::new(clock.clone()).store();
/// let began = store.queue.clock().await?;
/// clock.advance(Duration::from_hours(1));
/// assert_eq!(store.queue.clock().await?, began.after(Duration::from_hours(1)));
/// # Ok(())
/// # }
/// ```
///
/// It is a [`Site`] of the suite, each time with a new store and the clock of the host:
///
/// ```
/// use evented::testing::{Guarantee, Model, queue_promises};
/// for promise in queue_promises::<Model>().iter().filter(|promise| promise.guarantee == Guarantee::Priority) {
///     assert!(promise.test());
/// }
/// ```
#[derive(Clone)]
pub struct Model(Arc<Memory>);

/// What the sockets of one store share.
struct Memory {
    identity: Identity,
    clock: Clock,
    kept: Mutex<Kept>,
    /// Another number after each change.
    changes: watch::Sender<u64>,
}

impl Model {
    /// A new store, in which nothing is.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let (kept, changes) = (Mutex::new(Kept::new()), watch::Sender::new(0));
        Self(Arc::new(Memory { identity: format!("model:{}", EventId::new()).into(), clock, kept, changes }))
    }

    /// The store, as one more process opens it: all of one model, or of its clones, are one.
    #[must_use]
    pub fn store(&self) -> Store {
        Store::new(&self.0).with_admin(Arc::clone(&self.0))
    }
}

impl Memory {
    /// Asks what is kept, at the time that the clock says.
    fn ask<'a, T: Send + 'a>(&'a self, act: impl FnOnce(&mut Kept, StoreTime) -> T + Send + 'a) -> Pending<'a, T> {
        self.write(|kept, now| Ok(act(kept, now)), |_| false)
    }

    /// Changes what is kept. Those who wait are told where it `has_changed` something.
    fn write<'a, T: Send + 'a>(
        &'a self,
        act: impl FnOnce(&mut Kept, StoreTime) -> Result<T, StoreError> + Send + 'a,
        has_changed: impl FnOnce(&T) -> bool + Send + 'a,
    ) -> Pending<'a, T> {
        Box::pin(async move {
            let done = {
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                act(&mut kept, self.clock.now())?
            };
            if has_changed(&done) {
                self.changes.send_modify(|mark| *mark += 1);
            }
            // Others have a turn, as they have while a store is asked that is elsewhere.
            tokio::task::yield_now().await;
            Ok(done)
        })
    }
}

impl About for Memory {
    fn name(&self) -> &str {
        self.identity.as_str()
    }

    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    fn limits(&self) -> Limits {
        Limits { push_bytes: usize::MAX, push_deliveries: usize::MAX, locks: Locks::Rows }
    }

    fn promise(&self) -> &'static str {
        "in memory: survives nothing"
    }

    fn close(&self) {}

    fn keeps(&self) -> &[Term] {
        Term::ALL
    }
}

impl QueueStore for Memory {
    fn push(&self, push: Push) -> Pending<'_, Pushed> {
        self.write(move |kept, now| kept.push(now, &push), Pushed::is_stored)
    }

    fn clock(&self) -> Pending<'_, StoreTime> {
        self.ask(|_, now| now)
    }

    fn exchange(&self, settlements: Arc<[Settlement]>, claim: Option<Claim>) -> Pending<'_, Exchanged> {
        self.write(
            move |kept, now| Ok(kept.exchange(now, &settlements, claim.as_ref())),
            |done| done.held.contains(&true) || !done.claims.deliveries.is_empty() || done.claims.suspects,
        )
    }

    fn suspects(&self, asked: Suspects) -> Pending<'_, Suspected> {
        self.write(
            move |kept, now| Ok(kept.suspects(now, &asked)),
            |claimed| !claimed.exposed.is_empty() || claimed.tried.is_some(),
        )
    }

    fn extend<'a>(&'a self, session: SessionId, leases: &'a [Lease], lease: Duration) -> Pending<'a, Vec<bool>> {
        self.write(move |kept, now| Ok(kept.extend(now, session, leases, lease)), |_| true)
    }

    fn leave(&self, session: SessionId) -> Pending<'_, ()> {
        self.ask(move |kept, _| kept.leave(session))
    }

    fn wait(&self, seen: u64, most: Duration) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        Box::pin(async move {
            let mut changes = self.changes.subscribe();
            tokio::select! {
                _ = changes.wait_for(|mark| *mark != seen) => {}
                () = self.clock.pass(most) => {}
            }
            *self.changes.borrow()
        })
    }
}

impl CatalogueStore for Memory {
    fn record(&self, record: Record) -> Pending<'_, Swap<()>> {
        self.write(move |kept, _| Ok(kept.record(&record)), |_| true)
    }

    fn read(&self) -> Pending<'_, CatalogueState> {
        self.ask(|kept, _| kept.catalogue())
    }

    fn retire(&self, handler: String, generation: u64) -> Pending<'_, Swap<bool>> {
        self.write(move |kept, now| Ok(kept.retire(now, &handler, generation)), |_| true)
    }
}

impl AdminStore for Memory {
    fn stats(&self) -> Pending<'_, Stats> {
        self.ask(|kept, now| kept.stats(now))
    }

    fn pause(&self, queue: String, paused: bool) -> Pending<'_, ()> {
        let pause = move |kept: &mut Kept, _| {
            kept.pause(queue, paused);
            Ok(())
        };
        self.write(pause, |()| true)
    }

    fn dead_letters(&self, handler: Option<String>, limit: u32) -> Pending<'_, Vec<DeadLetter>> {
        self.ask(move |kept, _| kept.dead_letters(handler.as_deref(), limit))
    }

    fn requeue(&self, letters: Letters, up_to: StoreTime) -> Pending<'_, Step> {
        self.write(move |kept, now| Ok(kept.requeue(now, &letters, up_to)), |step| step.count > 0)
    }

    fn discard(&self, letters: Letters, up_to: StoreTime) -> Pending<'_, Step> {
        self.ask(move |kept, _| kept.discard(&letters, up_to))
    }

    fn sweep(&self, retention: Retention) -> Pending<'_, Swept> {
        self.ask(move |kept, now| kept.sweep(now, retention))
    }
}

/// Each test has a model of its own, which goes by the clock of the host.
impl Site for Model {
    const NAME: &'static str = "the model";

    async fn new() -> Option<Self> {
        Some(Self::new(Clock::real()))
    }

    async fn open(&self) -> Store {
        self.store()
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("clock", &self.0.clock).finish_non_exhaustive()
    }
}
