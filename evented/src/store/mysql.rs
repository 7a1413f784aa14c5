//! MySQL 8 and MariaDB 10.6 or later: the outbox in the application's own database.
//!
//! Several processes relay and work in one database. Rows are locked, never tables, and a claim passes by what others have
//! in hand (`for update skip locked`). The tables are named `evented_..`; TLS needs one of sqlx's `tls` features in the
//! application's Cargo.toml, and a server that asks for `caching_sha2_password` without it sqlx's `mysql-rsa`. Of servers that
//! all take writes (Galera), all processes use one: the others know nothing of its locks.
//!
//! Up to six connections for each store, beside the application's pool, opened when they are needed: one relays and stores,
//! one settles and claims, one renews leases, from a thread of its own, one reads the catalogue and does what is short, one
//! counts and sweeps when it is asked to, one looks for what others committed (`notice.rs`). Handlers' transactions are on
//! connections of the pool (`transact.rs`).
//!
//! A database is known by a random name in a row of its own, by its server (`@@server_uuid`; on MariaDB the host's name and the
//! port) and by what it is called there: a dump that is read elsewhere is another store. Tables that were emptied or dropped
//! while a process runs are made again when it next looks (`identity.rs`).
//!
//! `emit_in` inserts one row, which moves `last_insert_id()` in that session, as any insert does: ask for it before. What a
//! statement such as `create table` commits by itself, is committed with the events that were emitted before it.

mod admin;
mod catalogue;
mod claim;
mod counts;
mod exchange;
mod identity;
mod keys;
mod link;
mod notice;
mod outbox;
mod pool;
mod push;
mod relay;
mod schema;
mod sql;
mod suspects;
mod transact;

use std::{
    any::TypeId,
    pin::Pin,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{Database, MySql, MySqlConnection, MySqlPool, Pool, mysql::MySqlConnectOptions};
use sqlx_core::transaction::TransactionManager as _;
use tokio::sync::{Mutex, Semaphore};

use crate::{
    error::{Error, StoreError, Written},
    id::{DeliveryId, SessionId},
    store::{
        About, AdminStore, CatalogueState, CatalogueStore, Claim, Claims, DeadLetter, Exchanged, Feed, Fence, Identity,
        Lease, Letters, Limits, Locks, OutboxRow, OutboxStore, Outcome, Pending, Push, Pushed, PutBack, QueueStore,
        Record, Relay, Relayed, Retention, Settlement, Stats, Step, Store, StoreTime, StoreUrl, Suspected, Suspects,
        Swap, Swept, Term, Told, TxCall, TxEnd, borrowed,
        tx::{Beginning, Committing, Inserting, NewRow, Outboxed, Ran, Statement, Taken},
    },
};

use self::{exchange::Exchange, identity::Known, link::Link, notice::Changes};

/// When so many rows of counts were left, they are added up.
const ADD_UP: u64 = 1_000;

pub(crate) struct MySqlStore {
    name: String,
    options: MySqlConnectOptions,
    known: Arc<Known>,
    /// Held by the one who makes the store whole again.
    making_whole: Mutex<()>,
    promise: &'static str,
    /// The application's pool: transactional handlers run on its connections.
    pool: MySqlPool,
    /// Leaves a part of the pool to the application, as on Postgres.
    turns: Semaphore,
    relay: Link,
    exchanger: Link,
    keeper: Link,
    reader: Link,
    /// For what may take long: a claim or a plan must not wait for a count.
    counter: Link,
    /// How many rows of counts were left here since they were added up.
    counted: AtomicU64,
    /// Rows were committed since the relay looked: it need not look before it locks.
    told: AtomicBool,
    changes: Arc<Changes>,
}

impl MySqlStore {
    /// Opens the outbox in the database of the application's pool.
    async fn open_outbox(pool: MySqlPool) -> Result<Store, StoreError> {
        let options = (*pool.connect_options()).clone();
        let found = schema::migrate(&options).await?;
        pool::check(&pool, &found).await?;
        let known = Arc::new(Known::new(found.met));
        borrowed::say_if_small(&pool);
        let store = Arc::new(Self {
            name: found.name,
            making_whole: Mutex::default(),
            promise: found.promise,
            turns: borrowed::turns(&pool),
            pool,
            relay: Link::new(&options, &known),
            exchanger: Link::new(&options, &known),
            keeper: Link::new(&options, &known),
            reader: Link::new(&options, &known),
            counter: Link::new(&options, &known),
            counted: AtomicU64::new(0),
            told: AtomicBool::new(false),
            changes: Changes::new(Link::new(&options, &known)),
            options,
            known,
        });
        Ok(Store::new(&store).with_admin(Arc::clone(&store)).with_outbox(store))
    }

    /// Opens the outbox at a URL, with a pool of its own. The database must be there: it is the application's.
    pub(crate) async fn open_outbox_url(url: &StoreUrl) -> Result<Store, StoreError> {
        let options = MySqlConnectOptions::from_str(url.reveal()).map_err(|error| {
            url.unread("outbox", "is not one of MySQL, like `mysql://user@localhost:3306/shop`", &error)
        })?;
        Self::open_outbox(MySqlPool::connect_lazy_with(options)).await
    }

    async fn exchange(&self, settlements: Arc<[Settlement]>, claim: Option<Claim>) -> Result<Exchanged, StoreError> {
        let mut due = None;
        if settlements.is_empty() {
            // Looks before it locks: an idle worker writes nothing.
            let Some(claim) = &claim else { return Ok(Exchanged::default()) };
            let found = self.exchanger.run(claim, claim::look).await?;
            if found.rows.is_empty() {
                let claims = Claims { next_due: found.next, ..Claims::default() };
                return Ok(Exchanged { claims, generation: Some(found.generation), ..Exchanged::default() });
            }
            due = Some(found);
        }
        let asked = Exchange { settlements: &settlements, claim: claim.as_ref(), due };
        let (exchanged, counts) =
            self.exchanger.transact(&asked, |conn, asked| exchange::exchange(conn, asked)).await?;
        if !settlements.is_empty() {
            // What is due again, or for the first time, is for others where nothing is claimed here.
            let due_again = |settlement: &Settlement| {
                settlement.lease.ordered || !matches!(settlement.outcome, Outcome::Completed | Outcome::Dead { .. })
            };
            if settlements.iter().any(due_again) {
                self.changes.tell();
            }
        }
        self.counted(counts).await;
        Ok(exchanged)
    }

    /// Takes note of rows of counts, and adds them up now and then: one step, which is more than was left here since the
    /// last.
    async fn counted(&self, rows: u64) {
        let before = self.counted.fetch_add(rows, Ordering::Relaxed);
        if before / ADD_UP != (before + rows) / ADD_UP
            && let Err(error) = self.counter.transact(&(), counts::add_up).await
        {
            tracing::debug!(error = %crate::error::in_one_line(&error), "counts were not added up; later");
        }
    }

    /// Reads the catalogue, and which database it is of. Rows that somebody has deleted, or the tables, are made again.
    async fn catalogue(&self) -> Result<CatalogueState, StoreError> {
        if let Some(state) = self.read_catalogue().await? {
            return Ok(state);
        }
        let _one_at_a_time = self.making_whole.lock().await;
        if let Some(state) = self.read_catalogue().await? {
            return Ok(state);
        }
        tracing::warn!(store = %self.name,
            "evented's tables were emptied or dropped while this process ran; what is missing is made again, and what was \
             stored there is gone");
        schema::make_whole(&self.options, &self.name, &self.known.get().name).await?;
        self.changes.tell();
        self.read_catalogue().await?.ok_or_else(|| {
            StoreError::transient("the tables were emptied again while they were made whole", Written::Nothing)
        })
    }

    /// The catalogue of a store that is whole.
    async fn read_catalogue(&self) -> Result<Option<CatalogueState>, StoreError> {
        let (state, met) = self.reader.run(&(), catalogue::read).await?;
        let Some(met) = met else { return Ok(None) };
        if self.known.note(met) {
            tracing::warn!(store = %self.name, identity = %self.known.get().identity,
                "another database is at the outbox's place now; what was known of the one before is read anew");
        }
        Ok(state)
    }

    async fn feed(&self, feed: Feed) -> Result<Option<Identity>, StoreError> {
        let written = loop {
            if let (true, written) = self.reader.transact(&feed, outbox::feed).await? {
                break written;
            }
            self.catalogue().await?;
        };
        if let Feed::Adopt(queue) = &feed {
            while self.reader.transact(queue, outbox::redirect).await? {}
        }
        Ok(written)
    }

    /// Runs a handler's transaction on a connection of the application's pool.
    async fn run_in_tx(&self, fence: Fence<'_>, call: TxCall<'_>) -> Result<TxEnd, StoreError> {
        let turn = self.turns.acquire().await.expect("nobody closes it");
        let taken = borrowed::take(&self.pool).await.map_err(|error| {
            let text = "no connection of the application's pool came free for a handler's transaction";
            link::failed(text, false, error)
        })?;
        let end = transact::transact(taken, fence, call).await;
        drop(turn);
        // What the handler emitted is committed now.
        self.changes.tell();
        self.counted(1).await;
        end
    }
}

impl Drop for MySqlStore {
    fn drop(&mut self) {
        self.changes.close();
    }
}

impl QueueStore for MySqlStore {
    fn push(&self, push: Push) -> Pending<'_, Pushed> {
        Box::pin(async move {
            let (pushed, counts) = self.relay.transact(&push, push::push).await?;
            self.changes.tell();
            self.counted(counts).await;
            Ok(pushed)
        })
    }

    fn clock(&self) -> Pending<'_, StoreTime> {
        Box::pin(async move { self.reader.run(&(), admin::clock).await })
    }

    fn exchange(&self, settlements: Arc<[Settlement]>, claim: Option<Claim>) -> Pending<'_, Exchanged> {
        Box::pin(self.exchange(settlements, claim))
    }

    fn suspects(&self, asked: Suspects) -> Pending<'_, Suspected> {
        Box::pin(async move {
            let (suspected, counts) = self.reader.transact(&asked, suspects::claim).await?;
            self.counted(counts).await;
            Ok(suspected)
        })
    }

    fn extend<'a>(&'a self, session: SessionId, leases: &'a [Lease], lease: Duration) -> Pending<'a, Vec<bool>> {
        Box::pin(async move {
            let asked = suspects::Renewal { session, leases, lease };
            let (held, came_back) = self.keeper.transact(&asked, |conn, asked| suspects::extend(conn, asked)).await?;
            if came_back {
                // What was held against it is due again.
                self.changes.tell();
            }
            Ok(held)
        })
    }

    fn leave(&self, session: SessionId) -> Pending<'_, ()> {
        Box::pin(async move { self.reader.run(&session, suspects::leave).await })
    }

    fn wait(&self, seen: u64, most: Duration) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        Box::pin(self.changes.wait(seen, most))
    }
}

impl CatalogueStore for MySqlStore {
    fn record(&self, record: Record) -> Pending<'_, Swap<()>> {
        Box::pin(async move {
            match self.reader.transact(&record, catalogue::record).await? {
                Swap::Moved => return Ok(Swap::Moved),
                Swap::Done(true) => self.changes.tell(),
                Swap::Done(false) => {}
            }
            Ok(Swap::Done(()))
        })
    }

    fn read(&self) -> Pending<'_, CatalogueState> {
        Box::pin(self.catalogue())
    }

    fn retire(&self, handler: String, generation: u64) -> Pending<'_, Swap<bool>> {
        Box::pin(async move {
            let retired = self.reader.transact(&(handler, generation), catalogue::retire).await?;
            if retired == Swap::Done(true) {
                self.changes.tell();
            }
            Ok(retired)
        })
    }
}

impl About for MySqlStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn identity(&self) -> Identity {
        self.known.get().identity
    }

    fn limits(&self) -> Limits {
        Limits { push_bytes: 64 << 20, push_deliveries: 200_000, locks: Locks::Rows }
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

impl AdminStore for MySqlStore {
    fn stats(&self) -> Pending<'_, Stats> {
        Box::pin(async move { self.counter.run(&(), admin::stats).await })
    }

    fn pause(&self, queue: String, paused: bool) -> Pending<'_, ()> {
        Box::pin(async move {
            self.reader.run(&(queue, paused), admin::pause).await?;
            self.changes.tell();
            Ok(())
        })
    }

    fn dead_letters(&self, handler: Option<String>, limit: u32) -> Pending<'_, Vec<DeadLetter>> {
        Box::pin(async move { self.counter.run(&(handler, limit), admin::dead_letters).await })
    }

    fn requeue(&self, letters: Letters, up_to: StoreTime) -> Pending<'_, Step> {
        Box::pin(async move {
            let requeued = self.counter.transact(&(letters, up_to), admin::requeue).await?;
            if requeued.count > 0 {
                self.changes.tell();
            }
            Ok(requeued)
        })
    }

    fn discard(&self, letters: Letters, up_to: StoreTime) -> Pending<'_, Step> {
        Box::pin(async move { self.counter.transact(&(letters, up_to), admin::discard).await })
    }

    fn sweep(&self, retention: Retention) -> Pending<'_, Swept> {
        Box::pin(admin::sweep(&self.counter, retention))
    }
}

impl OutboxStore for MySqlStore {
    fn relay(&self, relay: Relay) -> Pending<'_, Relayed> {
        Box::pin(async move {
            // Looks before it locks: an idle relay writes nothing.
            if !self.told.swap(false, Ordering::Relaxed) {
                let next = self.relay.run(&relay, relay::next_row).await?;
                if next != Some(Duration::ZERO) {
                    return Ok(Relayed { next_due: next, ..Relayed::default() });
                }
            }
            let turn = self.relay.transact_begun(&relay, relay::relay).await?;
            if !turn.waiting.is_empty() {
                // The turn is committed, whatever this comes to: who waits is looked at again by itself.
                if let Err(error) = self.relay.run(&turn.waiting, relay::look_again).await {
                    tracing::debug!(error = %crate::error::in_one_line(&error), "rows that wait were not looked at again");
                }
            }
            if turn.relayed.left > 0 {
                self.changes.tell();
            }
            self.counted(turn.counts).await;
            Ok(turn.relayed)
        })
    }

    fn finish(&self, rows: Vec<OutboxRow>) -> Pending<'_, Vec<bool>> {
        Box::pin(async move {
            let finished = self.relay.transact(&rows, outbox::finish).await?;
            self.changes.tell();
            Ok(finished)
        })
    }

    fn put_back(&self, rows: Vec<PutBack>) -> Pending<'_, ()> {
        Box::pin(async move {
            if !rows.is_empty() {
                self.relay.transact(&rows, |conn, rows| outbox::put_back(conn, rows)).await?;
                self.changes.tell();
            }
            Ok(())
        })
    }

    fn feed(&self, feed: Feed) -> Pending<'_, Option<Identity>> {
        Box::pin(self.feed(feed))
    }

    fn settled(&self, deliveries: Vec<DeliveryId>) -> Pending<'_, ()> {
        Box::pin(async move { self.reader.transact(&deliveries, |conn, settled| outbox::settled(conn, settled)).await })
    }

    fn transact<'a>(&'a self, fence: Fence<'a>, call: TxCall<'a>) -> Pending<'a, TxEnd> {
        Box::pin(self.run_in_tx(fence, call))
    }

    fn count(&self) -> Pending<'_, u64> {
        Box::pin(async move { self.counter.run(&(), outbox::rows).await })
    }

    fn database(&self) -> TypeId {
        TypeId::of::<MySql>()
    }

    fn tell(&self, told: Told) {
        match told {
            Told::Written => {
                self.changes.stir();
            }
            Told::Committed => {
                self.told.store(true, Ordering::Relaxed);
                self.changes.tell();
            }
        }
    }
}

impl Outboxed for MySql {
    const KIND: &'static str = "MySQL";

    fn insert_row<'a>(conn: &'a mut MySqlConnection, row: &'a NewRow) -> Inserting<'a> {
        Box::pin(outbox::insert_row(conn, row))
    }

    fn statements(row: &NewRow) -> Vec<Statement> {
        vec![outbox::statement(row)]
    }

    fn explain(_: &NewRow, error: &sqlx::Error) -> Option<Error> {
        outbox::explain(error)
    }

    fn run<'a>(conn: &'a mut MySqlConnection, statement: &'a Statement) -> Ran<'a> {
        Box::pin(async move { Ok(outbox::run(conn, statement).await?) })
    }

    fn begin(pool: &Pool<Self>) -> Beginning<'_, Self> {
        Box::pin(async move { Ok((Taken(transact::BEGIN.at(pool).await?), None)) })
    }

    /// Of one that a deadlock has undone it answers `Ok`, as the driver does. A savepoint that is set at the beginning and released in
    /// the text of the commit would tell, and makes a commit 25 microseconds longer, a tenth of it where the disk is fast.
    fn commit(conn: &mut MySqlConnection) -> Committing<'_> {
        Box::pin(<Self as Database>::TransactionManager::commit(conn))
    }

    fn open(pool: Pool<Self>) -> Pending<'static, Store> {
        Box::pin(MySqlStore::open_outbox(pool))
    }
}
