//! The boundary: what a store promises to the flows above it, and nothing about how it keeps it.
//!
//! A store's clock is its own. Stores take durations and answer with times of their clock; a worker's idea of now is
//! never written. Each promise below has a test of that name.

use std::{fmt, ops::Deref, pin::Pin, sync::Arc, time::Duration};

use crate::{
    error::{StoreError, Written},
    id::SessionId,
};

mod url;
mod identity;
mod limits;
mod payload;
mod push;
mod claim;
mod catalogue;
mod told;
mod outbox;
pub mod kind;
pub mod tx;
pub(crate) mod placed;
#[cfg_attr(
    not(any(feature = "sqlite", feature = "postgres", feature = "mysql")),
    expect(dead_code, reason = "no database has transactions")
)]
mod borrowed;
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
mod room;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "sea-orm")]
pub mod sea_orm;
mod open;
mod into_queue;

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub(crate) use catalogue::number_of;
pub(crate) use open::{QUEUE_DEFAULT, exists};
pub use {
    catalogue::{CatalogueEntry, CatalogueState, Record, Route, Swap},
    claim::{
        Blame, CHARGES_MAX, Claim, ClaimHandler, ClaimQueue, Claimed, Claims, Exchanged, Lapsed, Lease, Outcome,
        Settlement, Suspected, Suspects, TRIED_FROM, lived_for_trial, pick,
    },
    identity::Identity,
    into_queue::{IntoQueue, Queue},
    limits::{Limits, Locks, Term},
    open::{open_outbox, open_queue},
    outbox::{
        Elsewhere, Fan, FanOut, Feed, Fence, OutboxRow, OutboxStore, PutBack, Relay, Relayed, Taken, Told, TxCall,
        TxEnd,
    },
    payload::Payload,
    push::{
        INBOX_RETENTION, INBOX_SETTLED, NewDelivery, ONCE_COUNT, ONCE_FINISHED, ONCE_RETENTION, Push, Pushed,
        StoreTime, UniqueKey,
    },
    told::{DeadLetter, Letters, Retention, Stats, Step, StoredCount, Swept},
    url::StoreUrl,
};

pub use crate::id::new_generation;
pub use sqlx;

/// A future of a store's method.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// What a store says of itself.
pub trait About: Send + Sync + 'static {
    /// The store's kind and place, for logs; the same text for the same store, and no password.
    fn name(&self) -> &str;

    /// Which store it is, by what it is and never by how it is reached: as it was read last.
    fn identity(&self) -> Identity;

    /// What it can do at most.
    fn limits(&self) -> Limits;

    /// What a stored delivery survives with the store's settings, for `run()` to print.
    fn promise(&self) -> &str;

    /// Ends what the store does by itself, when its instance has stopped. It can still be asked.
    fn close(&self);

    /// Which terms of a delivery it keeps: [`run()`](crate::run) refuses a handler that asks for others.
    fn keeps(&self) -> &[Term];
}

/// Where deliveries wait, are leased and are settled.
pub trait QueueStore: Send + Sync + 'static {
    /// Stores all of the batch or nothing, in one commit. A delivery whose id is there already is left as it is, and so
    /// is, where the push says [`once`](Push::once), one that such a push has had before, even if it is settled by now.
    /// One whose [unique key](UniqueKey) another took is not stored until the time of that is over: neither the end of the
    /// other, nor pushing it again, changes its time.
    ///
    /// A push that comes after its [end](Push::until) by the store's clock stores nothing, however long it was on its way: what
    /// it would repeat may have been forgotten. What is [finished](Push::finished) is forgotten [`ONCE_FINISHED`] from now,
    /// and as many of those whose time is over are deleted with it, so that their number follows the work.
    ///
    /// At a crash before the answer: all or nothing is stored, and pushing again is safe.
    fn push(&self, push: Push) -> Pending<'_, Pushed>;

    /// What the store's clock says.
    fn clock(&self) -> Pending<'_, StoreTime>;

    /// Settles each delivery whose lease is still held and answers for each whether it was; then, if asked, leases
    /// deliveries that are due. One commit and one round trip for both, so that a worker's next batch costs no more than the
    /// end of its last.
    ///
    /// A late settlement changes nothing. The claim takes each delivery for itself alone, until `lease` from now by the
    /// store's clock: only deliveries of the named handlers, of payload versions that they read, of queues that are not
    /// paused; of deliveries with one order key only the one that was stored first. A delivery whose lease has ended counts
    /// as due where its session is alive, and becomes a [suspect](Self::suspects) where that has died. What is settled here is
    /// left for another claim.
    ///
    /// The first of an order key holds it across retries, releases, delays and lost leases; completed or dead, it lets the
    /// next go, when that is due by its own delay. What waits for its turn is not due.
    ///
    /// At a crash before the answer: all or nothing is settled. What is not settled runs again when its lease ends, and a
    /// lease that nobody heard of ends by itself.
    fn exchange(&self, settlements: Arc<[Settlement]>, claim: Option<Claim>) -> Pending<'_, Exchanged>;

    /// Claims suspects: deliveries whose session died while it had them. Nothing else may be due of them: they wait apart.
    ///
    /// A **death** is a session that [`extend`](Self::extend) has not renewed for the length of its lease. A session that the store
    /// does not know has not died. When a claim comes to a delivery whose lease has ended and whose session has died, the
    /// delivery becomes a suspect, with one of its [`deaths`](Blame::deaths) more. Where its session is alive, or it is
    /// a suspect already, its time is over and nothing more: it is due, or a suspect, as before.
    ///
    /// With one death it is **exposed**: claimed here, as many as are asked for, oldest first. With [`TRIED_FROM`] it is
    /// **tried singly**: claimed here one at a time, the oldest first, when each lease of the session that died with it has ended,
    /// when no other suspect of that session waits or runs exposed, of the asked handlers and in no paused queue, and when the
    /// asking session has [lived long enough](lived_for_trial). A session that dies with one that it tries may have died of that: it becomes one of
    /// its [`charges`](Blame::charges) when it is tried next, unless another suspect that died with that session has had
    /// another death before it was settled.
    ///
    /// A settled attempt ends all suspicion: [`Retry`](Outcome::Retry) holds nothing against it any more. Released, it is the
    /// suspect that it was. It holds its order key; all else goes on. At a crash: as with [`exchange`](Self::exchange).
    fn suspects(&self, asked: Suspects) -> Pending<'_, Suspected>;

    /// Renews a session, and leases of it, until `lease` from now. Answers for each lease whether it is still held; a lost one
    /// stays lost.
    ///
    /// A session that was dead by then is alive again: what it was the last death of has one death less, and is due again
    /// where it waits as a suspect for no other reason.
    ///
    /// Does not queue behind `push` and `exchange`. Where one write transaction locks the whole store, as in SQLite,
    /// it waits for that one, and fails when it takes too long.
    fn extend<'a>(&'a self, session: SessionId, leases: &'a [Lease], lease: Duration) -> Pending<'a, Vec<bool>>;

    /// Ends a session: it is forgotten, and what it still holds when its leases end was interrupted.
    fn leave(&self, session: SessionId) -> Pending<'_, ()>;

    /// Waits until the store may have changed since the mark `seen`, at most for `most`, and answers the new mark.
    ///
    /// No change is missed: one that comes between two waits ends the second at once. Never fails; a store that cannot
    /// be reached is quiet.
    fn wait(&self, seen: u64, most: Duration) -> Pin<Box<dyn Future<Output = u64> + Send + '_>>;
}

/// What a store knows of all processes: their handlers.
pub trait CatalogueStore: Send + Sync + 'static {
    /// Records handlers, so that every process's emits and relays know them, if the catalogue is still as it was read.
    /// One that was retired is back where the process began after that; a process that ran before leaves it retired.
    ///
    /// At a crash before the answer: all or nothing is recorded; read the catalogue and do it again.
    fn record(&self, record: Record) -> Pending<'_, Swap<()>>;

    /// Every handler ever recorded, with the generation that [`Push::generation`] refers to.
    ///
    /// It is also what makes a store whole again that was emptied, restored or replaced while the process ran: rows that
    /// evented presumes are made again, with the identity that this process knows where there is none, and the
    /// [`identity`](About::identity) is read anew.
    fn read(&self) -> Pending<'_, CatalogueState>;

    /// Takes a handler and its earlier names from the catalogue, if that is still as it was read: nothing is stored for it any
    /// more. Answers whether it was there.
    fn retire(&self, handler: String, generation: u64) -> Pending<'_, Swap<bool>>;
}

/// What a person looks at and decides, from any process, also while no worker runs.
pub trait AdminStore: Send + Sync + 'static {
    /// Deliveries by handler, waiting and settled, and the queues that are paused.
    fn stats(&self) -> Pending<'_, Stats>;

    /// Pauses a queue, or resumes it: while it is paused no delivery of it is claimed, in any process, also of those that
    /// start meanwhile. What runs goes on.
    fn pause(&self, queue: String, paused: bool) -> Pending<'_, ()>;

    /// The newest dead letters, at most `limit`: all, or those of one handler.
    fn dead_letters(&self, handler: Option<String>, limit: u32) -> Pending<'_, Vec<DeadLetter>>;

    /// Makes dead letters that died at `up_to` or before deliveries again, due at once, with all their attempts before them;
    /// behind those that wait for their order key. One step: so many as hold no lock for longer than a moment (on SQLite 10
    /// ms). Answers how many there were; ask again while there are more.
    fn requeue(&self, letters: Letters, up_to: StoreTime) -> Pending<'_, Step>;

    /// Deletes dead letters that died at `up_to` or before: one step, as with [`requeue`](Self::requeue).
    fn discard(&self, letters: Letters, up_to: StoreTime) -> Pending<'_, Step>;

    /// Deletes what is kept no longer: dead letters beyond `retention`, unique keys whose time is over, deliveries pushed
    /// once whose time is over or beyond the newest [`ONCE_COUNT`], and those of other stores that ran longer ago than
    /// [`INBOX_RETENTION`]. Where counters can be wrong, since somebody changes deliveries and counts nothing, it counts again what
    /// is few enough to be read. One step, as with [`requeue`](Self::requeue). At a crash: what is left is deleted by the next.
    fn sweep(&self, retention: Retention) -> Pending<'_, Swept>;
}

/// A store: the sockets that it has.
///
/// Every store is a queue with a catalogue of handlers. One without [`admin`](Self::admin) can be worked with and not be asked, and
/// one without [`outbox`](Self::outbox) takes no part in the application's transactions.
#[derive(Clone)]
pub struct Store {
    /// What it says of itself.
    pub about: Arc<dyn About>,
    /// Where deliveries wait, are leased and are settled.
    pub queue: Arc<dyn QueueStore>,
    /// What it knows of all processes: their handlers.
    pub catalogue: Arc<dyn CatalogueStore>,
    /// What a person looks at and decides.
    pub admin: Option<Arc<dyn AdminStore>>,
    /// Rows that were written in the application's transactions.
    pub outbox: Option<Arc<dyn OutboxStore>>,
}

impl Store {
    /// The sockets that every store has.
    pub fn new<S: About + QueueStore + CatalogueStore>(store: &Arc<S>) -> Self {
        Self {
            about: Arc::clone(store) as _,
            queue: Arc::clone(store) as _,
            catalogue: Arc::clone(store) as _,
            admin: None,
            outbox: None,
        }
    }

    /// The same, of one that can be asked.
    #[must_use]
    pub fn with_admin(self, admin: Arc<impl AdminStore>) -> Self {
        Self { admin: Some(admin), ..self }
    }

    /// The same, of one that keeps an outbox.
    #[must_use]
    pub fn with_outbox(self, outbox: Arc<impl OutboxStore>) -> Self {
        Self { outbox: Some(outbox), ..self }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.about.name()).finish()
    }
}

/// A store that keeps an outbox.
#[derive(Clone)]
pub(crate) struct Outbox {
    store: Store,
    pub rows: Arc<dyn OutboxStore>,
}

impl Store {
    /// The outbox that it keeps.
    pub(crate) fn into_outbox(self) -> Option<Outbox> {
        let rows = self.outbox.clone()?;
        Some(Outbox { store: self, rows })
    }

    /// What can be asked of it.
    pub(crate) fn asked(&self) -> Result<&Arc<dyn AdminStore>, StoreError> {
        let text = || format!("{} cannot be asked: it has no admin socket", self.about.name());
        self.admin.as_ref().ok_or_else(|| StoreError::lasting(text(), Written::Nothing))
    }
}

impl Deref for Outbox {
    type Target = Store;
    fn deref(&self) -> &Store {
        &self.store
    }
}
