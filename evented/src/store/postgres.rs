//! Postgres: the queue in a database of its own or in the application's, and the outbox in the application's, shared by many
//! processes. Version 15 or later.
//!
//! The queue's URL is sqlx's, `postgres://user:password@host:5432/shop?sslmode=require`, and its tables are in the first
//! schema of the search path, which `?options[search_path]=..` sets. TLS needs one of sqlx's `tls` features in the
//! application's Cargo.toml. Behind pgbouncer in transaction mode, add `?statement-cache-capacity=0&listen=off`: then each
//! statement is in a transaction of its own, prepared anew, and other processes' changes are found by looking each 2
//! seconds or sooner.
//!
//! Up to seven connections for each queue and nine for each outbox, beside the application's pool, opened when they are needed: one stores what is emitted (`writer.rs`), one
//! settles and claims, one renews leases, from a thread of its own, one reads the catalogue and does what is short, one
//! counts and sweeps when it is asked to, one listens and one notifies (`listen.rs`). Two workers in two processes meet in
//! no row: claims skip what others have in hand, and counters are added up later.
//!
//! What is committed: an emit is stored in one statement together with those that came while the last was under way. A
//! worker settles a batch and claims the next in one statement. Order keys, unique keys, retries and dead letters take a
//! transaction, with one statement for all deliveries of a kind.
//!
//! An outbox has two more: one relays (`outbox.rs`), one looks for what was committed without a word (`stir.rs`). Handlers with
//! `&mut Tx` run on the application's own connections (`transact.rs`), on three quarters of them at once: rows are locked, and not
//! the database. Emitting writes one row in the application's transaction and tells nobody of it there.

mod admin;
mod catalogue;
mod claim;
mod counts;
mod exchange;
mod floors;
mod keys;
mod link;
mod listen;
mod outbox;
mod place;
mod pool;
mod push;
mod relay;
mod schema;
mod sql;
mod stir;
mod suspects;
mod transact;
mod writer;

use std::{
    any::TypeId,
    pin::Pin,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::{PgConnection, PgPool, Pool, Postgres, postgres::PgPoolOptions};
use tokio::sync::{Notify, Semaphore};

use crate::{
    error::{Error, StoreError},
    id::{DeliveryId, SessionId},
    store::{
        About, AdminStore, CatalogueState, CatalogueStore, Claim, DeadLetter, Exchanged, Feed, Fence, Identity, Lease,
        Letters, Limits, Locks, OutboxRow, OutboxStore, Outcome, Pending, Push, Pushed, PutBack, QueueStore, Record,
        Relay, Relayed, Retention, Settlement, Stats, Step, Store, StoreTime, StoreUrl, Suspected, Suspects, Swap,
        Swept, Term, Told, TxCall, TxEnd, borrowed,
        tx::{Beginning, Committing, Inserting, NewRow, Outboxed, Ran, Statement, Taken},
    },
};

use self::{
    floors::Floors,
    link::{Link, Plans},
    listen::Changes,
    place::Place,
    writer::Writer,
};

/// After so many commits that count the counts are added up: each left a row or two.
const ADD_UP: usize = 500;
/// After so many settlements, what they left in the indexes is cleared away, for which the server comes by once a minute.
const VACUUM: usize = 200_000;

pub(crate) struct PostgresStore {
    name: String,
    promise: &'static str,
    /// As it was read last.
    identity: RwLock<Identity>,
    writer: Writer,
    exchanger: Link,
    /// Commits since the counts were added up.
    counted: AtomicUsize,
    settled: AtomicUsize,
    floors: Floors,
    keeper: Link,
    reader: Link,
    /// For what may take long: a claim or a plan must not wait for a count.
    counter: Arc<Link>,
    changes: Arc<Changes>,
    outbox: Option<Outbox>,
}

/// What an outbox has beside a queue.
struct Outbox {
    /// The application's pool: transactional handlers run on its connections.
    pool: PgPool,
    /// Leaves a part of the pool to the application: handlers of which each asks for one more connection must not wait for
    /// each other.
    turns: Semaphore,
    /// The schema that has our tables, quoted: a handler's transaction may have another search path.
    schema: String,
    place: Arc<Place>,
    relayer: Link,
    /// Wakes the look for what was committed without a word, and how often it was woken.
    stirred: Arc<Notify>,
    stirs: AtomicU64,
    /// Rows were committed since the relay looked: it need not look before it locks.
    told: AtomicBool,
}

impl PostgresStore {
    /// Opens the queue at `url`.
    pub(crate) async fn open_queue(url: &StoreUrl) -> Result<Store, StoreError> {
        Self::open(Place::of("queue", url)?, None).await
    }

    /// Opens the outbox in the database of the application's pool.
    async fn open_outbox(pool: PgPool) -> Result<Store, StoreError> {
        Self::open(Place::of_pool(&pool.connect_options()), Some(pool)).await
    }

    /// Opens the outbox at a URL, with a pool of its own.
    pub(crate) async fn open_outbox_url(url: &StoreUrl) -> Result<Store, StoreError> {
        let place = Place::of("outbox", url)?;
        let pool = PgPoolOptions::new().connect_lazy_with(place.options.clone());
        Self::open(place, Some(pool)).await
    }

    async fn open(place: Place, pool: Option<PgPool>) -> Result<Store, StoreError> {
        let place = Arc::new(place);
        let found = schema::migrate(&place).await?;
        let promise = match &pool {
            // What is emitted is committed there. A commit of ours that a crash undoes is done again.
            Some(pool) => pool::check(pool, &found).await?.unwrap_or(found.promise),
            None => found.promise,
        };
        let schema = found.schema.clone().unwrap_or_else(|| "public".to_owned());
        let name = match found.schema {
            Some(schema) => format!("{}/{schema}", place.name),
            None => place.name.clone(),
        };
        let changes = Changes::start(&place, found.channel);
        let stored = {
            let changes = Arc::clone(&changes);
            move || changes.tell()
        };
        let outbox = pool.map(|pool| {
            let stirred = Arc::new(Notify::new());
            let looks = Link::new(&place, Plans::ByIndex);
            changes.keep(
                tokio::spawn(stir::look_when_stirred(looks, Arc::clone(&stirred), Arc::clone(&changes))).abort_handle(),
            );
            let relayer = Link::new(&place, Plans::ByIndex);
            let turns = borrowed::turns(&pool);
            borrowed::say_if_small(&pool);
            Outbox {
                pool,
                turns,
                schema,
                place: Arc::clone(&place),
                relayer,
                stirred,
                stirs: AtomicU64::new(0),
                told: AtomicBool::new(false),
            }
        });
        let store = Arc::new(Self {
            name,
            promise,
            identity: RwLock::new(found.identity),
            writer: Writer::start(Link::new(&place, Plans::ByIndex), stored),
            exchanger: Link::new(&place, Plans::ByIndex),
            counted: AtomicUsize::new(0),
            settled: AtomicUsize::new(0),
            floors: Floors::default(),
            keeper: Link::new(&place, Plans::ByIndex),
            reader: Link::new(&place, Plans::ByIndex),
            counter: Arc::new(Link::new(&place, Plans::ByIndex)),
            changes,
            outbox,
        });
        let sockets = Store::new(&store).with_admin(Arc::clone(&store));
        Ok(if store.outbox.is_some() { sockets.with_outbox(store) } else { sockets })
    }

    fn outbox(&self) -> &Outbox {
        self.outbox.as_ref().expect("only what was opened as an outbox is asked for one")
    }

    fn known_identity(&self) -> Identity {
        self.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A commit left counts, which are added up now and then, beside what goes on.
    fn count(&self) {
        if self.counted.fetch_add(1, Ordering::Relaxed) + 1 < ADD_UP {
            return;
        }
        self.counted.store(0, Ordering::Relaxed);
        let counter = Arc::clone(&self.counter);
        tokio::spawn(async move {
            if let Err(error) = counter.run(&(), |session, ()| Box::pin(counts::add_up(session))).await {
                tracing::debug!(error = %crate::error::in_one_line(&error), "counts were not added up; later");
            }
        });
    }

    async fn read_catalogue(&self) -> Result<CatalogueState, StoreError> {
        let known = self.reader.transact(&self.known_identity(), catalogue::read_all).await?;
        if known.made_whole {
            tracing::warn!(
                store = self.name,
                "the store was emptied: evented's own rows were gone and are made again, and the \
                handlers are recorded anew"
            );
        }
        *self.identity.write().unwrap_or_else(PoisonError::into_inner) = known.identity;
        self.changes.tell_on(&known.channel);
        Ok(known.state)
    }

    async fn run_in_tx(&self, fence: Fence<'_>, call: TxCall<'_>) -> Result<TxEnd, StoreError> {
        let outbox = self.outbox();
        let stirs = outbox.stirs.load(Ordering::Relaxed);
        let ours = transact::Ours { schema: &outbox.schema, row_security: outbox.place.row_security() };
        let turn = outbox.turns.acquire().await.expect("nobody closes it");
        let end = transact::transact(&outbox.pool, ours, fence, call).await?;
        drop(turn);
        // What the handler emitted is committed now, and the next of its order key is due.
        let emitted = outbox.stirs.load(Ordering::Relaxed) != stirs;
        if matches!(end, TxEnd::Committed) {
            self.settled.fetch_add(1, Ordering::Relaxed);
            self.count();
            if fence.is_ordered() || emitted {
                self.changes.tell();
            }
        }
        Ok(end)
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
        }
        if !settlements.is_empty() || !exchanged.claims.deliveries.is_empty() {
            self.count();
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
        Box::pin(async move {
            let pushed = self.writer.push(push).await?;
            self.count();
            Ok(pushed)
        })
    }

    fn clock(&self) -> Pending<'_, StoreTime> {
        Box::pin(async move { self.reader.run(&(), |session, ()| Box::pin(admin::clock(session))).await })
    }

    fn exchange(&self, settlements: Arc<[Settlement]>, claim: Option<Claim>) -> Pending<'_, Exchanged> {
        Box::pin(self.exchange(settlements, claim))
    }

    fn suspects(&self, asked: Suspects) -> Pending<'_, Suspected> {
        Box::pin(async move {
            self.reader.transact(&asked, |session, asked| Box::pin(suspects::claim(session, asked))).await
        })
    }

    fn extend<'a>(&'a self, session: SessionId, leases: &'a [Lease], lease: Duration) -> Pending<'a, Vec<bool>> {
        Box::pin(async move {
            let (held, came_back) = suspects::extend(&self.keeper, session, leases, lease).await?;
            if came_back {
                // What was held against it is due again.
                self.changes.tell();
            }
            Ok(held)
        })
    }

    fn leave(&self, session: SessionId) -> Pending<'_, ()> {
        Box::pin(
            async move { self.reader.run(&session, |link, session| Box::pin(suspects::leave(link, *session))).await },
        )
    }

    fn wait(&self, seen: u64, most: Duration) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        Box::pin(self.changes.wait(seen, most))
    }
}

impl CatalogueStore for PostgresStore {
    fn record(&self, record: Record) -> Pending<'_, Swap<()>> {
        Box::pin(async move {
            let recording =
                self.reader.transact(&record, |session, record| Box::pin(catalogue::record(session, record)));
            Ok(match recording.await? {
                Swap::Moved => Swap::Moved,
                Swap::Done(changed) => {
                    if changed {
                        self.changes.tell();
                    }
                    Swap::Done(())
                }
            })
        })
    }

    fn read(&self) -> Pending<'_, CatalogueState> {
        Box::pin(self.read_catalogue())
    }

    fn retire(&self, handler: String, generation: u64) -> Pending<'_, Swap<bool>> {
        Box::pin(async move {
            let asked = (handler, generation);
            let retiring =
                self.reader.transact(&asked, |session, asked| Box::pin(catalogue::retire(session, &asked.0, asked.1)));
            let retired = retiring.await?;
            if retired == Swap::Done(true) {
                self.changes.tell();
            }
            Ok(retired)
        })
    }
}

impl About for PostgresStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn identity(&self) -> Identity {
        self.known_identity()
    }

    fn limits(&self) -> Limits {
        Limits { push_bytes: 256 << 20, push_deliveries: 200_000, locks: Locks::Rows }
    }

    fn promise(&self) -> &str {
        self.promise
    }

    fn close(&self) {
        self.changes.close();
    }

    fn keeps(&self) -> &[Term] {
        Term::ALL
    }
}

impl AdminStore for PostgresStore {
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

    fn requeue(&self, letters: Letters, up_to: StoreTime) -> Pending<'_, Step> {
        Box::pin(async move {
            let meant = (letters, up_to);
            let requeueing = self.counter.transact(&meant, |session, meant| Box::pin(admin::requeue(session, meant)));
            let requeued = requeueing.await?;
            if requeued.count > 0 {
                self.changes.tell();
            }
            Ok(requeued)
        })
    }

    fn discard(&self, letters: Letters, up_to: StoreTime) -> Pending<'_, Step> {
        Box::pin(async move {
            let meant = (letters, up_to);
            self.counter.transact(&meant, |session, meant| Box::pin(admin::discard(session, meant))).await
        })
    }

    fn sweep(&self, retention: Retention) -> Pending<'_, Swept> {
        Box::pin(admin::sweep(&self.counter, retention))
    }
}

impl OutboxStore for PostgresStore {
    fn relay(&self, relay: Relay) -> Pending<'_, Relayed> {
        Box::pin(async move {
            let outbox = self.outbox();
            let told = outbox.told.swap(false, Ordering::Relaxed);
            let relayed = relay::relay(&outbox.relayer, &self.floors, &relay, told).await?;
            if relayed.done > 0 {
                self.count();
            }
            if relayed.left > 0 {
                self.changes.tell();
            } else if relayed.done + relayed.claimed.len() > 0 {
                self.changes.expect_more();
            }
            Ok(relayed)
        })
    }

    fn finish(&self, rows: Vec<OutboxRow>) -> Pending<'_, Vec<bool>> {
        Box::pin(async move {
            let relayer = &self.outbox().relayer;
            let finished = relayer.transact(&rows, |session, rows| Box::pin(relay::finish(session, rows))).await?;
            Ok(finished)
        })
    }

    fn put_back(&self, rows: Vec<PutBack>) -> Pending<'_, ()> {
        Box::pin(async move {
            if rows.is_empty() {
                return Ok(());
            }
            let relayer = &self.outbox().relayer;
            relayer.run(&rows, |session, rows| Box::pin(relay::put_back(session, rows))).await
        })
    }

    fn feed(&self, feed: Feed) -> Pending<'_, Option<Identity>> {
        Box::pin(async move {
            let written = self.reader.run(&feed, |session, feed| Box::pin(relay::feed(session, feed))).await?;
            if let Feed::Adopt(queue) = &feed {
                let relayer = &self.outbox().relayer;
                while relayer.transact(queue, |session, queue| Box::pin(relay::redirect(session, queue))).await? {}
            }
            Ok(written)
        })
    }

    fn settled(&self, deliveries: Vec<DeliveryId>) -> Pending<'_, ()> {
        Box::pin(async move {
            if deliveries.is_empty() {
                return Ok(());
            }
            self.reader.run(&deliveries, |session, ids| Box::pin(relay::settled(session, ids))).await
        })
    }

    fn transact<'a>(&'a self, fence: Fence<'a>, call: TxCall<'a>) -> Pending<'a, TxEnd> {
        Box::pin(self.run_in_tx(fence, call))
    }

    fn count(&self) -> Pending<'_, u64> {
        Box::pin(async move { self.counter.run(&(), |session, ()| Box::pin(relay::rows(session))).await })
    }

    fn database(&self) -> TypeId {
        TypeId::of::<Postgres>()
    }

    fn tell(&self, told: Told) {
        match told {
            Told::Written => {
                let outbox = self.outbox();
                outbox.stirs.fetch_add(1, Ordering::Relaxed);
                outbox.stirred.notify_one();
            }
            Told::Committed => {
                self.outbox().told.store(true, Ordering::Relaxed);
                self.changes.tell();
            }
        }
    }
}

impl Outboxed for Postgres {
    const KIND: &'static str = "Postgres";

    fn insert_row<'a>(conn: &'a mut PgConnection, row: &'a NewRow) -> Inserting<'a> {
        Box::pin(outbox::insert_row(conn, row))
    }

    fn statements(row: &NewRow) -> Vec<Statement> {
        outbox::statements(row)
    }

    fn explain(_: &NewRow, error: &sqlx::Error) -> Option<Error> {
        outbox::explain(error)
    }

    fn run<'a>(conn: &'a mut PgConnection, statement: &'a Statement) -> Ran<'a> {
        Box::pin(async move { Ok(outbox::run(conn, statement).await?) })
    }

    fn begin(pool: &Pool<Self>) -> Beginning<'_, Self> {
        Box::pin(async move { Ok((Taken(transact::BEGIN.at(pool).await?), None)) })
    }

    fn commit(conn: &mut PgConnection) -> Committing<'_> {
        Box::pin(transact::commit(conn))
    }

    fn open(pool: Pool<Self>) -> Pending<'static, Store> {
        Box::pin(PostgresStore::open_outbox(pool))
    }
}
