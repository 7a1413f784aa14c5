//! A store whose errors say where it is and what it was asked: each that leaves the boundary passes here, so that no flow has
//! to name it, and none forgets to.

use std::{any::TypeId, pin::Pin, sync::Arc, time::Duration};

use crate::{error::Act, id::DeliveryId};

use super::{
    Admin, Catalogue, CatalogueState, Claim, DeadLetter, Exchanged, Feed, Identity, Lease, Letters, Limits, OutboxRow,
    OutboxStore, Pending, Push, Pushed, PutBack, QueueStore, Record, Relay, Relayed, Retention, Settlement, Stats,
    Step, Store, StoreTime, Swap, Swept, TxCall, TxEnd,
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

    fn clock(&self) -> Pending<'_, StoreTime> {
        self.tell(Act::Read("reading the clock"), self.0.clock())
    }

    fn wait(&self, seen: u64, most: Duration) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        self.0.wait(seen, most)
    }
}

impl<S: Store + ?Sized> Catalogue for Placed<S> {
    fn record(&self, record: Record) -> Pending<'_, Swap<()>> {
        self.tell(Act::Write("recording handlers"), self.0.record(record))
    }

    fn catalogue(&self) -> Pending<'_, CatalogueState> {
        self.tell(Act::Read("reading the catalogue of handlers"), self.0.catalogue())
    }

    fn retire(&self, handler: String, generation: u64) -> Pending<'_, Swap<bool>> {
        self.tell(Act::Write("retiring a handler"), self.0.retire(handler, generation))
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn identity(&self) -> Identity {
        self.0.identity()
    }

    fn limits(&self) -> Limits {
        self.0.limits()
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

    fn requeue(&self, letters: Letters, up_to: StoreTime) -> Pending<'_, Step> {
        self.tell(Act::Write("requeueing dead letters"), self.0.requeue(letters, up_to))
    }

    fn discard(&self, letters: Letters, up_to: StoreTime) -> Pending<'_, Step> {
        self.tell(Act::Write("discarding dead letters"), self.0.discard(letters, up_to))
    }

    fn sweep(&self, retention: Retention) -> Pending<'_, Swept> {
        self.tell(Act::Write("deleting what is kept no longer"), self.0.sweep(retention))
    }
}

impl OutboxStore for Placed<dyn OutboxStore> {
    fn relay(&self, relay: Relay) -> Pending<'_, Relayed> {
        self.tell(Act::Write("relaying"), self.0.relay(relay))
    }

    fn finish(&self, rows: Vec<OutboxRow>) -> Pending<'_, Vec<bool>> {
        self.tell(Act::Write("finishing relayed events"), self.0.finish(rows))
    }

    fn put_back(&self, rows: Vec<PutBack>) -> Pending<'_, ()> {
        self.tell(Act::Write("putting events back into the outbox"), self.0.put_back(rows))
    }

    fn feed(&self, feed: Feed) -> Pending<'_, Option<Identity>> {
        self.tell(Act::Write("asking which queue the outbox feeds"), self.0.feed(feed))
    }

    fn settled(&self, deliveries: Vec<DeliveryId>) -> Pending<'_, ()> {
        self.tell(Act::Write("noting what is settled elsewhere"), self.0.settled(deliveries))
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

    fn nudge(&self) {
        self.0.nudge();
    }

    fn committed(&self) {
        self.0.committed();
    }
}
