//! The boundary of an outbox: what is promised of rows that were written in the application's transactions, and of handlers
//! that run in one.

use std::{any::TypeId, collections::HashSet, pin::Pin, sync::Arc, time::Duration};

use crate::{
    error::{BoxError, HandlerResult},
    id::{DeliveryId, EventId, LeaseToken},
    origin::Origin,
};

use super::{Claim, Claims, Lease, NewDelivery, Pending, Store};

/// A queue store that also keeps the outbox: in the application's own database, beside the business data.
pub trait OutboxStore: Store {
    /// Takes committed outbox rows that no other relay holds and asks `fan_out` for each.
    ///
    /// A row whose deliveries all stay here is replaced by them at once, in one commit. The others are leased and
    /// answered: push their background deliveries to the queue store, then [`finish`](Self::finish) them. Rows are
    /// claimed, never read by offset: a sequence is not commit order. Those of a turn go on in the order in which they were
    /// written; a row with a delivery of an order key waits for those before it that another relay has. What was asked for
    /// is claimed in the same commit, as by [`exchange`](super::QueueStore::exchange). At a crash: the lease ends and the
    /// row is taken again; the deliveries' ids make the repetition harmless.
    fn relay(&self, relay: Relay) -> Pending<'_, Relayed>;

    /// Replaces leased outbox rows by their outbox deliveries, in one commit. Answers for each whether it was; one whose
    /// lease was lost is skipped.
    fn finish(&self, rows: Vec<(OutboxRow, Vec<NewDelivery>)>) -> Pending<'_, Vec<bool>>;

    /// Runs `call` in a transaction of the outbox database. The fence check, what `call` writes and the settlement are
    /// one commit; without the lease nothing is committed.
    ///
    /// `call`'s own failure rolls back and is answered as [`TxEnd::Failed`]. At a crash: nothing happened, or all.
    fn transact<'a>(&'a self, lease: &'a Lease, call: TxCall<'a>) -> Pending<'a, TxEnd>;

    /// The same for a delivery that is stored elsewhere: that it ran, and what `call` writes, are one commit. One that ran to
    /// its end before is answered as [`TxEnd::Committed`], without a call; one that runs elsewhere at the moment is waited for.
    ///
    /// Remembered for [`INBOX_RETENTION`](super::INBOX_RETENTION). At a crash: nothing happened, or all.
    fn transact_once<'a>(&'a self, delivery: DeliveryId, call: TxCall<'a>) -> Pending<'a, TxEnd>;

    /// The longest that a handler's transaction may last, beside a lease of this length: where it locks the whole database,
    /// the renewal of the leases waits behind it. [`Duration::MAX`] where it locks rows only, so that others write meanwhile.
    fn tx_limit(&self, lease: Duration) -> Duration;

    /// Outbox rows not yet relayed.
    fn outbox_rows(&self) -> Pending<'_, u64>;

    /// The database whose transactions write here, as `TypeId::of::<Db>()`.
    fn database(&self) -> TypeId;

    /// What tells its database from every other, inside a transaction: a row in another would never be delivered.
    fn identity(&self) -> &str;

    /// Says that a row was written in a transaction that may commit soon, of which nobody will tell.
    fn nudge(&self);

    /// Says that rows were committed.
    fn committed(&self);
}

/// A relay's turn.
#[derive(Clone)]
pub struct Relay {
    /// The generation of the catalogue that `fan_out` knows.
    pub generation: u64,
    /// At most so many rows.
    pub rows: usize,
    /// How long the lease of a row is whose deliveries go elsewhere.
    pub lease: Duration,
    /// Who gets the row.
    pub fan_out: Arc<FanOut>,
    /// What is claimed in the same commit, once the rows' deliveries are stored here.
    pub claim: Option<Claim>,
}

/// Says who gets a row.
pub type FanOut = dyn Fn(&OutboxRow) -> Fan + Send + Sync;

/// Who gets an outbox row.
#[derive(Debug, Default)]
pub struct Fan {
    /// Its outbox deliveries: they stay in the outbox's database.
    pub here: Vec<NewDelivery>,
    /// Its background deliveries: they go to the queue store.
    pub elsewhere: Vec<NewDelivery>,
    /// This relay cannot say who gets it: it is left as it is, for so long.
    pub later: Option<Duration>,
}

impl Fan {
    /// Whether a delivery of it waits for those before it.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        self.here.iter().chain(&self.elsewhere).any(|delivery| delivery.order.is_some())
    }
}

/// What a relay's turn came to.
#[derive(Debug, Default)]
pub struct Relayed {
    /// Rows replaced by their deliveries.
    pub done: usize,
    /// Rows leased to this relay, to be finished.
    pub claimed: Vec<OutboxRow>,
    /// The catalogue has changed: nothing was done; read it and come again.
    pub catalogue_moved: bool,
    /// How long until the next row is due, where nothing was; `None` when no row is stored, or something was done.
    pub next_due: Option<Duration>,
    /// What was claimed in the same commit: nothing where no row was replaced.
    pub claims: Claims,
    /// How many deliveries were stored and not claimed: others may look for them.
    pub left: usize,
}

impl Relayed {
    /// Takes note of what was stored, and of what was claimed after that.
    #[must_use]
    pub fn with(mut self, stored: &[NewDelivery], claims: Claims) -> Self {
        let claimed: HashSet<_> = claims.deliveries.iter().map(|claimed| claimed.lease.delivery).collect();
        self.left = stored.iter().filter(|delivery| !claimed.contains(&delivery.id)).count();
        self.claims = claims;
        self
    }
}

/// An emitted transactional event.
#[derive(Debug, Clone)]
pub struct OutboxRow {
    /// The store's own handle of the row.
    pub row: i64,
    /// The fence of a leased row.
    pub token: Option<LeaseToken>,
    /// The event's id.
    pub event_id: EventId,
    /// The event's name when it was emitted: perhaps an alias of a linked one.
    pub event: String,
    /// Where the event comes from.
    pub origin: Origin,
    /// The payload's version.
    pub version: u32,
    /// When it was emitted, by the store's clock.
    pub emitted_unix_ms: i64,
    /// The encoded event.
    pub payload: Arc<[u8]>,
}

/// The part of a transactional handler between the fence check and the settlement. The argument is a `Tx<Db>`.
pub type TxCall<'a> = Box<
    dyn for<'t> FnOnce(&'t mut (dyn std::any::Any + Send)) -> Pin<Box<dyn Future<Output = HandlerResult> + Send + 't>>
        + Send
        + 'a,
>;

/// How a transactional handler ended.
#[derive(Debug)]
pub enum TxEnd {
    /// Its writes and the settlement are committed.
    Committed,
    /// The handler failed; nothing of it is committed, the delivery is still leased.
    Failed(BoxError),
    /// The lease was lost; nothing is committed.
    Lost,
}
