//! The boundary of an outbox: what is promised of rows that were written in the application's transactions, and of handlers
//! that run in one.

use std::{any::TypeId, collections::HashSet, pin::Pin, sync::Arc, time::Duration};

use crate::{
    error::{BoxError, HandlerResult},
    id::{DeliveryId, EventId, Key, LeaseToken},
    origin::Origin,
};

use super::{Claim, Claims, Identity, Lease, NewDelivery, Payload, Pending};

/// Rows that were written in the application's transactions, in its own database, beside the business data; and handlers that run
/// in one.
pub trait OutboxStore: Send + Sync + 'static {
    /// Takes committed outbox rows that no other relay holds and asks `fan_out` for each.
    ///
    /// A row whose deliveries all stay here is replaced by them at once, in one commit. Of the others the deliveries that stay
    /// are stored in that same commit, once and for all, with what the row is [taken](Taken) for; then they
    /// are leased and answered, or left for later: so an absent queue stops only what goes there. Push what goes elsewhere to
    /// the queue store, then [`finish`](Self::finish) the rows, or [put them back](Self::put_back).
    ///
    /// A row that was taken before has its target for good and is taken only by a relay of that target, that leases, or is the queue. `fan_out` is
    /// asked for it again, and is told for whom it was taken: what is to stay of it now is stored, beside what was before. New rows are taken first. A turn
    /// takes at most so many [rows](Relay::rows), and of their payloads so many [bytes](Relay::bytes), but one row at least.
    ///
    /// Rows are claimed, never read by offset: a sequence is not commit order. Those of a turn go on in the order in which they
    /// were written. A row with a delivery of an order key waits for earlier ones that nobody has taken yet; what goes
    /// elsewhere waits for earlier rows of the same key and target, and for no others. What was asked for
    /// is claimed in the same commit, as by [`exchange`](super::QueueStore::exchange). At a crash: the lease ends and the
    /// row is taken again; the deliveries' ids make the repetition harmless.
    fn relay(&self, relay: Relay) -> Pending<'_, Relayed>;

    /// Deletes leased outbox rows whose deliveries are all stored. Answers for each whether it was; one whose lease was lost is
    /// skipped.
    fn finish(&self, rows: Vec<OutboxRow>) -> Pending<'_, Vec<bool>>;

    /// Gives leased rows back, due again after a delay, perhaps with what stands in their way, which is kept with the row. One
    /// whose lease was lost is skipped.
    fn put_back(&self, rows: Vec<PutBack>) -> Pending<'_, ()>;

    /// Which queue store this outbox feeds. Answers the one that is written then; `None` where none is. At a crash while one is
    /// adopted: it is written, and the rows on their way to another follow when it is adopted again.
    fn feed(&self, feed: Feed) -> Pending<'_, Option<Identity>>;

    /// Runs `call` in a transaction of the outbox's database. The check of the `fence`, what `call` writes and the end of the
    /// delivery are one commit. `call`'s own failure rolls back and is answered as [`TxEnd::Failed`]. At a crash: nothing
    /// happened, or all.
    ///
    /// [`Fence::Lease`]: the delivery is stored here, and without the lease nothing is committed.
    ///
    /// [`Fence::Once`]: it is stored elsewhere. One that ran to its end here before is answered as [`TxEnd::Committed`], without
    /// a call; one that runs elsewhere at the moment is waited for, a minute at the most: its process may stand still. The
    /// error after that is transient, and the delivery is tried later. Remembered for
    /// [`INBOX_RETENTION`](super::INBOX_RETENTION), or until some time after it is [settled](Self::settled).
    fn transact<'a>(&'a self, fence: Fence<'a>, call: TxCall<'a>) -> Pending<'a, TxEnd>;

    /// Deliveries of other stores that ran here are settled there and cannot come again: they are remembered for
    /// [`INBOX_SETTLED`](super::INBOX_SETTLED) from now. At a crash: as long as without this.
    fn settled(&self, deliveries: Vec<DeliveryId>) -> Pending<'_, ()>;

    /// How many outbox rows are not yet relayed.
    fn count(&self) -> Pending<'_, u64>;

    /// The database whose transactions write here, as `TypeId::of::<Db>()`.
    fn database(&self) -> TypeId;

    /// Takes note of a row of this process's that the relay does not know of yet. Never waits.
    fn tell(&self, told: Told);
}

/// What makes a handler's transaction one with its delivery.
#[derive(Debug, Clone, Copy)]
pub enum Fence<'a> {
    /// The lease on a delivery that is stored in this database: it must be held at the start and at the end.
    Lease(&'a Lease),
    /// A delivery of another store: it must not have run here before.
    Once(DeliveryId),
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl Fence<'_> {
    /// Whether others may wait for the delivery's end, since it has an order key.
    pub(crate) fn is_ordered(&self) -> bool {
        matches!(self, Self::Lease(lease) if lease.ordered)
    }
}

/// What an outbox is told of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It was written in a transaction that may commit soon, of which nobody will tell.
    Written,
    /// It was committed.
    Committed,
}

/// What an outbox is told of the queue store that it feeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feed {
    /// Nothing: it is asked.
    Ask,
    /// It feeds this one, where none is written.
    First(Identity),
    /// A person says that this one takes the place of the other, also in rows that are on their way there.
    Adopt(Identity),
}

/// A relay's turn.
#[derive(Clone)]
pub struct Relay {
    /// The generation of the catalogue that `fan_out` knows.
    pub generation: u64,
    /// At most so many rows.
    pub rows: usize,
    /// At most so many bytes of payloads, and one row at least.
    pub bytes: usize,
    /// How long the lease of a row is whose deliveries go elsewhere.
    pub lease: Duration,
    /// The queue store to which they go, written with the first turn that has the row: the outbox itself, where it is its own
    /// queue. `None`: it is not known here.
    pub target: Option<Identity>,
    /// What becomes of rows with deliveries that go elsewhere.
    pub elsewhere: Elsewhere,
    /// Who gets the row.
    pub fan_out: Arc<FanOut>,
    /// What is claimed in the same commit, once the rows' deliveries are stored here.
    pub claim: Option<Claim>,
}

/// What becomes of rows with deliveries that go elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elsewhere {
    /// They are leased to this relay.
    Lease,
    /// They are due for so long not, and then for a relay that leases: new ones alone are looked at.
    Leave(Duration),
    /// There are none: the outbox is its own queue. Rows that were on their way to another, before it was, are taken first.
    Nothing,
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
    /// This relay cannot say who gets it: it is left as it is, for so long, and nothing of it is stored.
    pub later: Option<Duration>,
}

impl Fan {
    /// Whether a delivery of it waits for those before it.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        self.here.iter().chain(&self.elsewhere).any(|delivery| delivery.order.is_some())
    }

    /// The order keys of what goes elsewhere, each once.
    #[must_use]
    pub fn keys_elsewhere(&self) -> Vec<Key> {
        let mut keys: Vec<_> = self.elsewhere.iter().filter_map(|delivery| delivery.order).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// A leased row that is given back.
#[derive(Debug, Clone)]
pub struct PutBack {
    /// The row.
    pub row: OutboxRow,
    /// When it is due again.
    pub delay: Duration,
    /// What stands in its way, in one line.
    pub error: Option<String>,
}

/// What a relay's turn came to.
#[derive(Debug, Default)]
pub struct Relayed {
    /// Rows replaced by their deliveries.
    pub done: usize,
    /// Rows of which what stays here was stored, and that were left for a relay that leases.
    pub put_off: usize,
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
    /// What the first turn wrote, where the row was taken before.
    pub taken: Option<Taken>,
    /// The encoded event.
    pub payload: Payload,
}

/// What the first turn of a row writes, and what then holds, whatever becomes of the handlers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The queue store that what goes elsewhere goes to.
    pub target: Identity,
    /// The handlers that get it there, by their names then: what stays is stored, and another release may have moved a
    /// handler from here to there.
    pub handlers: Vec<String>,
}

impl Taken {
    /// What a row with this fan is taken for.
    #[must_use]
    pub fn of(target: &Identity, fan: &Fan) -> Self {
        let handlers = fan.elsewhere.iter().map(|delivery| delivery.handler.to_string()).collect();
        Self { target: target.clone(), handlers }
    }

    /// The handlers in one text, as `read` takes them.
    #[must_use]
    pub fn handlers_as_text(&self) -> String {
        serde_json::Value::from(self.handlers.clone()).to_string()
    }

    /// What two columns of a row say, where it was taken before.
    ///
    /// # Errors
    /// The text is none of [`handlers_as_text`](Self::handlers_as_text).
    pub fn read(target: Option<&str>, handlers: Option<&str>) -> Result<Option<Self>, serde_json::Error> {
        let Some(target) = target else { return Ok(None) };
        Ok(Some(Self { target: target.into(), handlers: serde_json::from_str(handlers.unwrap_or("[]"))? }))
    }
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
