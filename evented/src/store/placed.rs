//! A store whose errors say where it is and what it was asked: each that leaves the boundary passes here, so that no flow has
//! to name it, and none forgets to.

use std::{any::TypeId, pin::Pin, sync::Arc, time::Duration};

use crate::{error::Act, id::DeliveryId};

use super::{
    Admin, Catalogue, CatalogueEntry, CatalogueState, Claim, DeadLetter, Exchanged, Lease, Letters, NewDelivery,
    OutboxRow, OutboxStore, Pending, Push, Pushed, QueueStore, Relay, Relayed, Retention, Settlement, Stats, Store,
    Swept, TxCall, TxEnd,
};

/// A store that is asked through this.
pub(crate) struct Placed<S: ?Sized>(Arc<S>);

/// The queue, with errors that name it.
pub(crate) fn queue(store: Arc<dyn Store>) -> Arc<dyn Store> {
    Arc::new(Placed(store))
}

/// The outbox, with errors that name it.
pub(crate) fn outbox(store: Arc<dyn OutboxStore>) -> Arc<dyn OutboxStore> {
    Arc::new(Placed(store))
}

impl<S: Store + ?Sized> Placed<S> {
    fn tell<'a, T: Send + 'a>(&'a self, act: Act, asking: Pending<'a, T>) -> Pending<'a, T> {
        Box::pin(async move { asking.await.map_err(|error| error.at(act, self.0.name())) })
    }
}

impl<S: Store + ?Sized> QueueStore for Placed<S> {
    fn push(&self, push: Push) -> Pending<'_, Pushed> {
        self.tell(Act::Write("storing deliveries"), self.0.push(push))
    }

    fn exchange(&self, settlements: Arc<[Settlement]>, claim: Option<Claim>) -> Pending<'_, Exchanged> {
        self.tell(Act::Write("settling and claiming"), self.0.exchange(settlements, claim))
    }

    fn extend<'a>(&'a self, leases: &'a [Lease], lease: Duration) -> Pending<'a, Vec<bool>> {
        self.tell(Act::Write("renewing leases"), self.0.extend(leases, lease))
    }

    fn runs_alone(&self, lease: Lease, runs: bool) -> Pending<'_, bool> {
        self.tell(Act::Write("noting that a delivery runs alone"), self.0.runs_alone(lease, runs))
    }

    fn forget(&self, deliveries: Vec<DeliveryId>) -> Pending<'_, ()> {
        self.tell(Act::Write("forgetting what was pushed"), self.0.forget(deliveries))
    }

    fn wait(&self, seen: u64, most: Duration) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        self.0.wait(seen, most)
    }
}

impl<S: Store + ?Sized> Catalogue for Placed<S> {
    fn record(&self, handlers: Arc<[CatalogueEntry]>) -> Pending<'_, ()> {
        self.tell(Act::Write("recording handlers"), self.0.record(handlers))
    }

    fn catalogue(&self) -> Pending<'_, CatalogueState> {
        self.tell(Act::Read("reading the catalogue of handlers"), self.0.catalogue())
    }

    fn retire(&self, handler: String) -> Pending<'_, bool> {
        self.tell(Act::Write("retiring a handler"), self.0.retire(handler))
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn promise(&self) -> &str {
        self.0.promise()
    }

    fn close(&self) {
        self.0.close();
    }
}

impl<S: Store + ?Sized> Admin for Placed<S> {
    fn stats(&self) -> Pending<'_, Stats> {
        self.tell(Act::Read("counting deliveries"), self.0.stats())
    }

    fn pause(&self, queue: String, paused: bool) -> Pending<'_, ()> {
        self.tell(Act::Write(if paused { "pausing a queue" } else { "resuming a queue" }), self.0.pause(queue, paused))
    }

    fn dead_letters(&self, handler: Option<String>, limit: u32) -> Pending<'_, Vec<DeadLetter>> {
        self.tell(Act::Read("reading dead letters"), self.0.dead_letters(handler, limit))
    }

    fn requeue(&self, letters: Letters) -> Pending<'_, u64> {
        self.tell(Act::Write("requeueing dead letters"), self.0.requeue(letters))
    }

    fn discard(&self, letters: Letters) -> Pending<'_, u64> {
        self.tell(Act::Write("discarding dead letters"), self.0.discard(letters))
    }

    fn sweep(&self, retention: Retention) -> Pending<'_, Swept> {
        self.tell(Act::Write("deleting what is kept no longer"), self.0.sweep(retention))
    }
}

impl OutboxStore for Placed<dyn OutboxStore> {
    fn relay(&self, relay: Relay) -> Pending<'_, Relayed> {
        self.tell(Act::Write("relaying"), self.0.relay(relay))
    }

    fn finish(&self, rows: Vec<(OutboxRow, Vec<NewDelivery>)>) -> Pending<'_, Vec<bool>> {
        self.tell(Act::Write("finishing relayed events"), self.0.finish(rows))
    }

    fn transact<'a>(&'a self, lease: &'a Lease, call: TxCall<'a>) -> Pending<'a, TxEnd> {
        self.tell(Act::Write("running a handler's transaction"), self.0.transact(lease, call))
    }

    fn transact_once<'a>(&'a self, delivery: DeliveryId, call: TxCall<'a>) -> Pending<'a, TxEnd> {
        self.tell(Act::Write("running a handler's transaction"), self.0.transact_once(delivery, call))
    }

    fn tx_limit(&self, lease: Duration) -> Duration {
        self.0.tx_limit(lease)
    }

    fn outbox_rows(&self) -> Pending<'_, u64> {
        self.tell(Act::Read("counting the outbox's events"), self.0.outbox_rows())
    }

    fn database(&self) -> TypeId {
        self.0.database()
    }

    fn identity(&self) -> &str {
        self.0.identity()
    }

    fn nudge(&self) {
        self.0.nudge();
    }

    fn committed(&self) {
        self.0.committed();
    }
}
