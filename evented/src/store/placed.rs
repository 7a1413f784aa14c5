//! A store whose errors say where it is and what it was asked: each that leaves the boundary passes here, so that no flow has
//! to name it, and none forgets to.

use std::{any::TypeId, pin::Pin, sync::Arc, time::Duration};

use crate::{
    error::Act,
    id::{DeliveryId, SessionId},
};

use super::{
    About, AdminStore, CatalogueState, CatalogueStore, Claim, DeadLetter, Exchanged, Feed, Fence, Identity, Lease,
    Letters, OutboxRow, OutboxStore, Pending, Push, Pushed, PutBack, QueueStore, Record, Relay, Relayed, Retention,
    Settlement, Stats, Step, Store, StoreTime, Suspected, Suspects, Swap, Swept, Told, TxCall, TxEnd,
};

/// A socket that is asked through this.
struct Placed<S: ?Sized> {
    socket: Arc<S>,
    about: Arc<dyn About>,
}

/// The store with errors that name it.
pub(crate) fn placed(store: Store) -> Store {
    let about = store.about;
    Store {
        queue: Placed::of(store.queue, &about),
        catalogue: Placed::of(store.catalogue, &about),
        admin: store.admin.map(|admin| Placed::of(admin, &about) as _),
        outbox: store.outbox.map(|outbox| Placed::of(outbox, &about) as _),
        about,
    }
}

impl<S: ?Sized + Send + Sync> Placed<S> {
    fn of(socket: Arc<S>, about: &Arc<dyn About>) -> Arc<Self> {
        Arc::new(Self { socket, about: Arc::clone(about) })
    }

    fn place<'a, T: Send + 'a>(&'a self, act: Act, asking: Pending<'a, T>) -> Pending<'a, T> {
        Box::pin(async move { asking.await.map_err(|error| error.at(act, self.about.name())) })
    }
}

impl QueueStore for Placed<dyn QueueStore> {
    fn push(&self, push: Push) -> Pending<'_, Pushed> {
        self.place(Act::Write("storing deliveries"), self.socket.push(push))
    }

    fn exchange(&self, settlements: Arc<[Settlement]>, claim: Option<Claim>) -> Pending<'_, Exchanged> {
        self.place(Act::Write("settling and claiming"), self.socket.exchange(settlements, claim))
    }

    fn suspects(&self, asked: Suspects) -> Pending<'_, Suspected> {
        self.place(Act::Write("claiming suspects"), self.socket.suspects(asked))
    }

    fn extend<'a>(&'a self, session: SessionId, leases: &'a [Lease], lease: Duration) -> Pending<'a, Vec<bool>> {
        self.place(Act::Write("renewing leases"), self.socket.extend(session, leases, lease))
    }

    fn leave(&self, session: SessionId) -> Pending<'_, ()> {
        self.place(Act::Write("ending a session"), self.socket.leave(session))
    }

    fn clock(&self) -> Pending<'_, StoreTime> {
        self.place(Act::Read("reading the clock"), self.socket.clock())
    }

    fn wait(&self, seen: u64, most: Duration) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        self.socket.wait(seen, most)
    }
}

impl CatalogueStore for Placed<dyn CatalogueStore> {
    fn record(&self, record: Record) -> Pending<'_, Swap<()>> {
        self.place(Act::Write("recording handlers"), self.socket.record(record))
    }

    fn read(&self) -> Pending<'_, CatalogueState> {
        self.place(Act::Read("reading the catalogue of handlers"), self.socket.read())
    }

    fn retire(&self, handler: String, generation: u64) -> Pending<'_, Swap<bool>> {
        self.place(Act::Write("retiring a handler"), self.socket.retire(handler, generation))
    }
}

impl AdminStore for Placed<dyn AdminStore> {
    fn stats(&self) -> Pending<'_, Stats> {
        self.place(Act::Read("counting deliveries"), self.socket.stats())
    }

    fn pause(&self, queue: String, paused: bool) -> Pending<'_, ()> {
        self.place(
            Act::Write(if paused { "pausing a queue" } else { "resuming a queue" }),
            self.socket.pause(queue, paused),
        )
    }

    fn dead_letters(&self, handler: Option<String>, limit: u32) -> Pending<'_, Vec<DeadLetter>> {
        self.place(Act::Read("reading dead letters"), self.socket.dead_letters(handler, limit))
    }

    fn requeue(&self, letters: Letters, up_to: StoreTime) -> Pending<'_, Step> {
        self.place(Act::Write("requeueing dead letters"), self.socket.requeue(letters, up_to))
    }

    fn discard(&self, letters: Letters, up_to: StoreTime) -> Pending<'_, Step> {
        self.place(Act::Write("discarding dead letters"), self.socket.discard(letters, up_to))
    }

    fn sweep(&self, retention: Retention) -> Pending<'_, Swept> {
        self.place(Act::Write("deleting what is kept no longer"), self.socket.sweep(retention))
    }
}

impl OutboxStore for Placed<dyn OutboxStore> {
    fn relay(&self, relay: Relay) -> Pending<'_, Relayed> {
        self.place(Act::Write("relaying"), self.socket.relay(relay))
    }

    fn finish(&self, rows: Vec<OutboxRow>) -> Pending<'_, Vec<bool>> {
        self.place(Act::Write("finishing relayed events"), self.socket.finish(rows))
    }

    fn put_back(&self, rows: Vec<PutBack>) -> Pending<'_, ()> {
        self.place(Act::Write("putting events back into the outbox"), self.socket.put_back(rows))
    }

    fn feed(&self, feed: Feed) -> Pending<'_, Option<Identity>> {
        self.place(Act::Write("asking which queue the outbox feeds"), self.socket.feed(feed))
    }

    fn settled(&self, deliveries: Vec<DeliveryId>) -> Pending<'_, ()> {
        self.place(Act::Write("noting what is settled elsewhere"), self.socket.settled(deliveries))
    }

    fn transact<'a>(&'a self, fence: Fence<'a>, call: TxCall<'a>) -> Pending<'a, TxEnd> {
        self.place(Act::Write("running a handler's transaction"), self.socket.transact(fence, call))
    }

    fn count(&self) -> Pending<'_, u64> {
        self.place(Act::Read("counting the outbox's events"), self.socket.count())
    }

    fn database(&self) -> TypeId {
        self.socket.database()
    }

    fn tell(&self, told: Told) {
        self.socket.tell(told);
    }
}
