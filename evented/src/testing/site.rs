//! Where a promise is checked: the part of the suite that each store writes for itself.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::{
    id::EventId,
    store::{Store, TxCall},
};

/// A place of a test's own where one store is kept: a file, a schema, a prefix of keys. It is removed when it is dropped.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a site of the contract suite",
    label = "no place for a store",
    note = "implement `evented::testing::Site` for it: `new` makes a place with an empty store, `open` opens that store"
)]
pub trait Site: Sized {
    /// What a failure calls the store: `SQLite`.
    const NAME: &'static str;

    /// A new place, with an empty store. `None`: there can be none here, and the site has printed why; the test is skipped.
    fn new() -> impl Future<Output = Option<Self>>;

    /// Opens the store, as one more process does: what two opened stores know of each other, they know through the place.
    fn open(&self) -> impl Future<Output = Store>;
}

/// A site whose store is also an outbox, in an application's database with a table `ledger (entry)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a site of the outbox's contract suite",
    label = "no place for an outbox",
    note = "implement `evented::testing::OutboxSite` for it; a store that is no outbox passes `contract_suite!` alone"
)]
pub trait OutboxSite: Site {
    /// Opens the outbox, as one more process does.
    fn open_outbox(&self) -> impl Future<Output = Store>;

    /// Emits a transactional event in a transaction of the application, which commits if `before_its_end` says so and is
    /// rolled back otherwise. The event's id is that of `key`.
    fn emit_in(&self, key: &str, before_its_end: impl AsyncFnOnce() -> bool) -> impl Future<Output = EventId>;

    /// A handler's part of [`OutboxStore::transact`](crate::store::OutboxStore::transact): writes `entry` into the ledger and ends in this way.
    fn write(&self, entry: i64, end: End) -> TxCall<'static>;

    /// What the ledger has, in order.
    fn ledger(&self) -> impl Future<Output = Vec<i64>>;
}

/// How a transactional handler ends, after it has written.
#[derive(Debug, Clone)]
pub enum End {
    /// With `Ok`.
    Well,
    /// With the error `the ledger is closed`.
    Failing,
    /// Ends the transaction itself, then returns `Ok`.
    RollingBack,
    /// Ends the transaction itself, as a constraint with `on conflict rollback` does, then fails like [`Failing`](Self::Failing).
    RollingBackAndFailing,
    /// Commits the transaction itself, then returns `Ok`.
    Committing,
    /// Says so when it has written, then waits for ever.
    Hanging(Arc<Notify>),
    /// Ends the transaction itself, says so, then waits for ever.
    RollingBackAndHanging(Arc<Notify>),
}
