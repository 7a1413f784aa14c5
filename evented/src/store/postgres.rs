//! Postgres: the queue in a database of its own or in the application's, shared by many processes. Version 15 or later.
//!
//! The queue's URL is sqlx's, `postgres://user:password@host:5432/shop?sslmode=require`, and its tables are in the first
//! schema of the search path, which `?options[search_path]=..` sets. TLS needs one of sqlx's `tls` features in the
//! application's Cargo.toml. Behind pgbouncer in transaction mode, add `?statement-cache-capacity=0&listen=off`: then each
//! statement is in a transaction of its own, prepared anew, and other processes' changes are found by looking each 2
//! seconds or sooner.
//!
//! Up to seven connections for each store, opened when they are needed: one stores what is emitted (`writer.rs`), one
//! settles and claims, one renews leases, from a thread of its own, one reads the catalogue and does what is short, one
//! counts and sweeps when it is asked to, one listens and one notifies (`listen.rs`). Two workers in two processes meet in
//! no row: claims skip what others have in hand, and counters are added up later.
//!
//! What is committed: an emit is stored in one statement together with those that came while the last was under way. A
//! worker settles a batch and claims the next in one statement. Order keys, unique keys, retries and dead letters take a
//! transaction, with one statement for all deliveries of a kind.

mod admin;
mod catalogue;
mod claim;
mod exchange;
mod floors;
mod keys;
mod link;
mod listen;
mod place;
mod push;
mod schema;
mod sql;
mod writer;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    error::StoreError,
    id::DeliveryId,
    store::{
        Admin, Catalogue, CatalogueEntry, CatalogueState, Claim, DeadLetter, Exchanged, Lease, Letters, Outcome,
        Pending, Push, Pushed, QueueStore, Retention, Settlement, Stats, Swept,
    },
};

use self::{
    floors::Floors,
    link::{Link, Plans},
    listen::Changes,
    place::Place,
    writer::Writer,
};

/// After so many exchanges the counts are added up: each left a row or two.
const ADD_UP: u64 = 1_000;
/// After so many settlements, what they left in the indexes is cleared away, for which the server comes by once a minute.
const VACUUM: usize = 200_000;

pub(crate) struct PostgresStore {
    name: String,
    promise: &'static str,
    writer: Writer,
    exchanger: Link,
    exchanges: AtomicU64,
    settled: AtomicUsize,
    floors: Floors,
    keeper: Link,
    reader: Link,
    /// For what may take long: a claim or a plan must not wait for a count.
    counter: Arc<Link>,
    changes: Arc<Changes>,
}

impl PostgresStore {
    /// Opens the queue at `url`.
    pub(crate) async fn open_queue(url: &str) -> Result<Arc<Self>, StoreError> {
        let place = Arc::new(Place::of(url)?);
        let found = schema::migrate(&place).await?;
        let name = match found.schema {
            Some(schema) => format!("{}/{schema}", place.name),
            None => place.name.clone(),
        };
        let changes = Changes::start(&place, found.channel);
        let stored = {
            let changes = Arc::clone(&changes);
            move || changes.tell()
        };
        Ok(Arc::new(Self {
            name,
            promise: found.promise,
            writer: Writer::start(Link::new(&place, Plans::ByIndex), stored),
            exchanger: Link::new(&place, Plans::ByIndex),
            exchanges: AtomicU64::new(0),
            settled: AtomicUsize::new(0),
            floors: Floors::default(),
            keeper: Link::new(&place, Plans::ByIndex),
            reader: Link::new(&place, Plans::ByIndex),
            counter: Arc::new(Link::new(&place, Plans::Free)),
            changes,
        }))
    }

    async fn exchange(&self, settlements: Arc<[Settlement]>, claim: Option<Claim>) -> Result<Exchanged, StoreError> {
        let exchanged = exchange::exchange(&self.exchanger, &self.floors, &settlements, claim.as_ref()).await?;
        if !exchanged.claims.deliveries.is_empty() {
            self.changes.expect_more();
        }
        if !settlements.is_empty() {
            // What is due again, or for the first time, is for others where nothing is claimed here. What is completed makes
            // nothing due, and a claim has looked after it: no reason to look again.
            let due_again = |settlement: &Settlement| {
                settlement.lease.ordered || !matches!(settlement.outcome, Outcome::Completed | Outcome::Dead { .. })
            };
            if claim.is_none() && settlements.iter().any(due_again) {
                self.changes.tell();
            }
            if self.exchanges.fetch_add(1, Ordering::Relaxed) % ADD_UP == ADD_UP - 1
                && let Err(error) = self.exchanger.run(&(), |session, ()| Box::pin(exchange::add_up(session))).await
            {
                tracing::debug!(error = %crate::error::in_one_line(&error), "counts were not added up; later");
            }
        }
        if self.settled.fetch_add(settlements.len(), Ordering::Relaxed) + settlements.len() >= VACUUM {
            self.settled.store(0, Ordering::Relaxed);
            let counter = Arc::clone(&self.counter);
            tokio::spawn(async move { admin::vacuum(&counter).await });
        }
        Ok(exchanged)
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.changes.close();
    }
}

impl QueueStore for PostgresStore {
    fn push(&self, push: Push) -> Pending<'_, Pushed> {
        self.writer.push(push)
    }

    fn exchange(&self, settlements: Arc<[Settlement]>, claim: Option<Claim>) -> Pending<'_, Exchanged> {
        Box::pin(self.exchange(settlements, claim))
    }

    fn extend<'a>(&'a self, leases: &'a [Lease], lease: Duration) -> Pending<'a, Vec<bool>> {
        Box::pin(async move {
            let asked = (leases, lease);
            self.keeper.run(&asked, |session, asked| Box::pin(exchange::extend(session, asked.0, asked.1))).await
        })
    }

    fn forget(&self, deliveries: Vec<DeliveryId>) -> Pending<'_, ()> {
        Box::pin(
            async move { self.reader.run(&deliveries, |session, ids| Box::pin(admin::forget(session, ids))).await },
        )
    }

    fn runs_alone(&self, lease: Lease, runs: bool) -> Pending<'_, bool> {
        Box::pin(async move {
            let asked = (lease, runs);
            self.reader.run(&asked, |session, asked| Box::pin(exchange::runs_alone(session, asked.0, asked.1))).await
        })
    }

    fn wait(&self, seen: u64, most: Duration) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        Box::pin(self.changes.wait(seen, most))
    }
}

impl Catalogue for PostgresStore {
    fn record(&self, handlers: Arc<[CatalogueEntry]>) -> Pending<'_, ()> {
        Box::pin(async move {
            if catalogue::record(&self.reader, &handlers).await? {
                self.changes.tell();
            }
            Ok(())
        })
    }

    fn catalogue(&self) -> Pending<'_, CatalogueState> {
        Box::pin(async move { self.reader.transact(&(), catalogue::read_all).await })
    }

    fn retire(&self, handler: String) -> Pending<'_, bool> {
        Box::pin(async move {
            let retiring = self.reader.transact(&handler, |session, id| Box::pin(catalogue::retire(session, id)));
            let retired = retiring.await?;
            if retired {
                self.changes.tell();
            }
            Ok(retired)
        })
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn promise(&self) -> &str {
        self.promise
    }

    fn close(&self) {
        self.changes.close();
    }
}

impl Admin for PostgresStore {
    fn stats(&self) -> Pending<'_, Stats> {
        Box::pin(async move { self.counter.transact(&(), |session, ()| Box::pin(admin::stats(session))).await })
    }

    fn pause(&self, queue: String, paused: bool) -> Pending<'_, ()> {
        Box::pin(async move {
            let asked = (queue, paused);
            self.reader.run(&asked, |session, asked| Box::pin(admin::pause(session, &asked.0, asked.1))).await?;
            self.changes.tell();
            Ok(())
        })
    }

    fn dead_letters(&self, handler: Option<String>, limit: u32) -> Pending<'_, Vec<DeadLetter>> {
        Box::pin(async move {
            let asked = (handler, limit);
            self.counter
                .run(&asked, |session, asked| Box::pin(admin::dead_letters(session, asked.0.as_deref(), asked.1)))
                .await
        })
    }

    fn requeue(&self, letters: Letters) -> Pending<'_, u64> {
        Box::pin(async move {
            let requeueing = self.counter.transact(&letters, |session, meant| Box::pin(admin::requeue(session, meant)));
            let requeued = requeueing.await?;
            if requeued > 0 {
                self.changes.tell();
            }
            Ok(requeued)
        })
    }

    fn discard(&self, letters: Letters) -> Pending<'_, u64> {
        Box::pin(async move {
            self.counter.transact(&letters, |session, meant| Box::pin(admin::discard(session, meant))).await
        })
    }

    fn sweep(&self, retention: Retention) -> Pending<'_, Swept> {
        Box::pin(admin::sweep(&self.counter, retention))
    }
}
