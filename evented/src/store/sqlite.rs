//! SQLite: the embedded queue, and the outbox in the application's own database file.
//!
//! Up to five connections for each store, beside the application's pool: one writes (`writer.rs`), one reads, one watches
//! the file for commits of other processes, one renews leases, and one counts when it is asked to. In this process, whoever writes takes the store's `turn`
//! first: it is fair, where SQLite's own lock is not.

mod admin;
mod catalogue;
mod counts;
mod emit;
mod file;
mod link;
mod notice;
mod outbox;
mod push;
mod queue;
mod schema;
mod pool;
mod settle;
mod suspects;
mod transact;
mod turn;
mod writer;

use std::{
    any::TypeId,
    collections::HashSet,
    path::Path,
    pin::Pin,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{
    Connection, Sqlite, SqliteConnection, SqlitePool, query_scalar,
    sqlite::{SqliteConnectOptions, SqliteLockingMode, SqliteSynchronous},
};
use tokio::sync::{Mutex, watch as changes};

use crate::{
    error::{StoreError, Written},
    id::{DeliveryId, SessionId},
    store::{
        About, AdminStore, CatalogueState, CatalogueStore, Claim, Claims, DeadLetter, Exchanged, Feed, Fence, Identity,
        Lease, Letters, Limits, Locks, OutboxRow, OutboxStore, Pending, Push, Pushed, PutBack, QueueStore, Record,
        Relay, Relayed, Retention, Settlement, Stats, Step, Store, StoreTime, StoreUrl, Suspected, Suspects, Swap,
        Swept, Term, Told, TxCall, TxEnd, borrowed,
    },
    time,
};

use self::{
    file::{File, store_name},
    link::Link,
    notice::Watch,
    queue::Exchange,
    turn::Line,
    writer::{Writer, read_failed},
};

/// How long a connection of ours waits for another writer's lock.
const BUSY: Duration = Duration::from_secs(5);
/// How long to wait before the file is opened again that was busy at its first opening.
const OPEN_AGAIN: Duration = Duration::from_millis(25);

/// Holding the write lock for so long is worth a line in the log.
const LONG_LOCK: Duration = Duration::from_secs(1);
/// Handlers' transactions that held it for so long together are followed by a gap.
const GAP_AFTER: Duration = Duration::from_millis(10);

pub(crate) struct SqliteStore {
    file: Arc<File>,
    promise: &'static str,
    /// The application's pool, where this is an outbox: transactional handlers run on its connections.
    pool: Option<SqlitePool>,
    /// Held while this process writes to the file: its writers queue here and not at SQLite's lock (`turn.rs`).
    turn: Arc<Line>,
    /// One transactional handler of this process at a time asks for a connection and for the turn; and how long they held
    /// the lock since the last gap.
    one_tx: Mutex<Duration>,
    /// Rows were committed since the relay looked: it need not look before it locks.
    told: AtomicBool,
    /// How often an event was emitted in a transaction that does not tell.
    nudges: AtomicU64,
    /// Before when marks of pushes are too many, while a sweep deletes them; zero where it is not known.
    too_many_before: AtomicI64,
    writer: Arc<Writer>,
    reader: Mutex<Link>,
    keeper: Mutex<Link>,
    /// For what reads long and is asked seldom: a claim must not wait for a count.
    counter: Mutex<Link>,
    changes: changes::Sender<u64>,
    watch: Watch,
}

impl SqliteStore {
    /// Opens the queue at `url`: `sqlite:evented.db`, `sqlite:///var/lib/shop/queue.db?synchronous=normal`.
    pub(crate) async fn open_queue(url: &StoreUrl) -> Result<Store, StoreError> {
        Ok(Self::open(queue_options(url)?, None).await?.sockets())
    }

    fn sockets(self: Arc<Self>) -> Store {
        let store = Store::new(&self).with_admin(Arc::clone(&self));
        if self.pool.is_some() { store.with_outbox(self) } else { store }
    }

    /// Opens the outbox in the database of the application's pool.
    async fn open_outbox(pool: SqlitePool) -> Result<Store, StoreError> {
        let options = (*pool.connect_options()).clone();
        borrowed::say_if_small(&pool);
        Ok(Self::open(options, Some(pool)).await?.sockets())
    }

    /// Opens the outbox at a URL, with a pool of its own. The file must be there: it is the application's.
    pub(crate) async fn open_outbox_url(url: &StoreUrl) -> Result<Store, StoreError> {
        let options = SqliteConnectOptions::from_str(url.reveal())
            .map_err(|error| url.unread("outbox", "is not one of SQLite, like `sqlite:shop.db`", &error))?;
        Self::open_outbox(SqlitePool::connect_lazy_with(options.busy_timeout(BUSY))).await
    }

    async fn open(options: SqliteConnectOptions, pool: Option<SqlitePool>) -> Result<Arc<Self>, StoreError> {
        let options = ours(options);
        file::refuse_second_name(options.get_filename())?;
        // Before a connection of ours, which one of the pool's may keep out.
        let pooled = match &pool {
            Some(pool) => pool::look(pool).await,
            None => Ok(None),
        };
        if let Ok(Some(pooled)) = &pooled {
            pooled.check()?;
        }
        let mut conn = connect(&options, pool.is_none()).await?;
        // Named by its real path, so that two ways of writing one path are one store.
        let name = store_name(options.get_filename());
        let mode: String = query_scalar("pragma journal_mode")
            .fetch_one(&mut conn)
            .await
            .map_err(|error| read_failed(&format!("could not read {name}"), &error).because(error))?;
        if mode != "wal" {
            return Err(StoreError::lasting(
                format!(
                    "{name} is in journal mode `{mode}`, in which readers and writers block each other; open it with \
                     `.journal_mode(SqliteJournalMode::Wal)`, or run `pragma journal_mode = wal` on it once"
                ),
                Written::Nothing,
            ));
        }
        let store = schema::migrate(&mut conn, &name, None).await?;
        let mut synchronous: i64 = query_scalar("pragma synchronous")
            .fetch_one(&mut conn)
            .await
            .map_err(|error| read_failed(&format!("could not read {name}"), &error).because(error))?;
        if let (Some(pool), Some(pooled)) = (&pool, pooled.map_err(pool::no_connection)?) {
            // What is emitted is committed there. A commit of ours that a power cut undoes is done again.
            synchronous = pooled.synchronous;
            pooled.check_writes(pool).await?;
        }
        let (changes, _) = changes::channel(0_u64);
        let turn = turn::line(options.get_filename());
        let committed = {
            let changes = changes.clone();
            move || changes.send_modify(|mark| *mark += 1)
        };
        let file = File::new(options, pool.is_none(), store);
        let link = || Mutex::new(Link::new(&file));
        let writer = Arc::new(Writer::start(Link::to_write(&file), Arc::clone(&turn), committed));
        Ok(Arc::new(Self {
            reader: link(),
            keeper: link(),
            counter: link(),
            watch: Watch::start(&file, Arc::clone(&writer), changes.clone()),
            writer,
            file,
            promise: promise(synchronous),
            pool,
            one_tx: Mutex::new(Duration::ZERO),
            told: AtomicBool::new(false),
            nudges: AtomicU64::new(0),
            too_many_before: AtomicI64::new(0),
            turn,
            changes,
        }))
    }

    /// Runs a handler's transaction on a connection of the application's pool.
    async fn run_in_tx(&self, fence: Fence<'_>, call: TxCall<'_>) -> Result<TxEnd, StoreError> {
        let pool = self.pool.as_ref().expect("an outbox is opened with its pool");
        // One at a time asks for a connection, and holds nobody up while it waits for one.
        let mut one = self.one_tx.lock().await;
        let taken = borrowed::take(pool).await.map_err(|error| {
            let text = "no connection of the application's pool came free for a handler's transaction";
            read_failed(text, &error).because(error)
        })?;
        let Some(turn) = time::within(BUSY, self.turn.lock()).await else {
            return Err(StoreError::transient("other writers held the file for too long", Written::Nothing));
        };
        let nudges = self.nudges.load(Ordering::Relaxed);
        let began = time::now();
        let end = transact::transact(taken, fence, call).await;
        let held_for = began.elapsed();
        drop(turn);
        // What the handler emitted is committed now, and the next of its order key is due.
        if fence.is_ordered() || self.nudges.load(Ordering::Relaxed) != nudges {
            self.changes.send_modify(|mark| *mark += 1);
        }
        if held_for > LONG_LOCK {
            let (Fence::Lease(Lease { delivery, .. }) | Fence::Once(delivery)) = &fence;
            tracing::warn!(%delivery, ?held_for, store = self.file.name(),
                "a handler with `&mut Tx` held the file's write lock for long; nobody else could write meanwhile");
        }
        // Gaps of a fifth of the time, for the application's own writers: SQLite lets them look each 100 ms or sooner.
        *one += held_for;
        if *one >= GAP_AFTER {
            time::sleep(std::mem::take(&mut *one) / 4).await;
        }
        end
    }

    /// Reads on the reader's connection; nothing was written when it fails.
    async fn read<T>(
        &self,
        read: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        self.read_on(&self.reader, read).await
    }

    async fn read_on<T>(
        &self,
        link: &Mutex<Link>,
        read: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        let mut link = link.lock().await;
        if link.leave_what_is_gone().await {
            self.writer.look().await?;
        }
        use_link(&mut link, read).await
    }

    /// Makes rows of the store's own again that are missing.
    async fn make_whole(&self) -> Result<(), StoreError> {
        self.writer.run(Arc::clone(&self.file), catalogue::make_whole).await
    }
}

async fn use_link<T>(
    link: &mut Link,
    read: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
) -> Result<T, StoreError> {
    let done = match link.get().await {
        Ok(conn) => read(conn).await,
        Err(error) => Err(error),
    };
    done.map_err(|error| {
        link.mend(&error);
        read_failed("the database could not be read", &error).because(error)
    })
}

/// The options of a connection of ours, whatever the application's pool or the URL says: it writes, waits for others, sees what is
/// committed, and leaves the file to others when it does not.
fn ours(options: SqliteConnectOptions) -> SqliteConnectOptions {
    let options = options.busy_timeout(BUSY).read_only(false).shared_cache(false);
    let options = options.locking_mode(SqliteLockingMode::Normal);
    ["query_only", "read_uncommitted", "ignore_check_constraints", "case_sensitive_like"]
        .into_iter()
        .fold(options, |options, pragma| options.pragma(pragma, "off"))
}

/// Opens the first connection. Where several processes start at once on a new file, one of them sets its journal mode,
/// for which SQLite does not let the others wait: they try again.
async fn connect(options: &SqliteConnectOptions, is_ours: bool) -> Result<SqliteConnection, StoreError> {
    let until = time::after(BUSY);
    loop {
        // A new file is ours to set up. An existing one may be the application's: its journal mode is its own.
        let made = if is_ours { file::make(options).await } else { Ok(None) };
        let conn = match made {
            Ok(None) => SqliteConnection::connect_with(options).await,
            Ok(Some(conn)) => Ok(conn),
            Err(error) => Err(error),
        };
        match conn {
            Ok(conn) => return Ok(conn),
            Err(error) if writer::is_busy(&error) && time::now() < until => time::sleep(OPEN_AGAIN).await,
            Err(error) => {
                let file = options.get_filename();
                let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
                let why = if !folder.is_dir() {
                    format!("; there is no folder `{}`", folder.display())
                } else if !file.exists() {
                    "; it is not there, and could not be made".to_owned()
                } else {
                    String::new()
                };
                return Err(read_failed(&format!("could not open the SQLite file `{}`{why}", file.display()), &error)
                    .because(error));
            }
        }
    }
}

/// What a commit survives: <https://www.sqlite.org/pragma.html#pragma_synchronous>, in WAL mode.
fn promise(synchronous: i64) -> &'static str {
    match synchronous {
        0 => "synchronous=off: survives a crash of the process; a power cut may lose commits and damage the file",
        1 => "synchronous=normal: survives a crash of the process; a power cut may lose the last commits",
        _ => "synchronous=full: survives a crash of the process and a power cut",
    }
}

/// The parameters of a URL that sqlx reads, beside ours.
const URL_PARAMETERS: [&str; 4] = ["mode", "cache", "immutable", "vfs"];

/// The options of a queue's URL. `synchronous` is ours, the rest is sqlx's.
fn queue_options(url: &StoreUrl) -> Result<SqliteConnectOptions, StoreError> {
    let refused = |what: &str| url.refused("queue", what);
    let (base, parameters) = url.parts();
    let mut synchronous = SqliteSynchronous::Full;
    let mut rest = Vec::new();
    for (name, value) in parameters {
        if name == "synchronous" {
            synchronous = match value {
                "full" => SqliteSynchronous::Full,
                "extra" => SqliteSynchronous::Extra,
                "normal" => SqliteSynchronous::Normal,
                _ => return Err(refused("has another `synchronous=..` than `full`, `extra` or `normal`")),
            };
        } else if !URL_PARAMETERS.contains(&name) {
            let known = URL_PARAMETERS.join("`, `");
            return Err(refused(&format!("has the parameter `{name}`, which is none of `synchronous`, `{known}`")));
        } else if (name, value) == ("mode", "ro") || name == "immutable" {
            return Err(refused(&format!("says `{name}={value}`, and a queue is written to")));
        } else {
            rest.push(format!("{name}={value}"));
        }
    }
    let whole = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    let options = SqliteConnectOptions::from_str(&whole)
        .map_err(|error| url.unread("queue", "is not one of SQLite, like `sqlite:evented.db`", &error))?;
    if options.get_filename() == Path::new(":memory:") || base.contains(":memory:") {
        return Err(refused("is in memory, which loses everything at a crash; name a file"));
    }
    Ok(options.create_if_missing(true).synchronous(synchronous))
}

impl QueueStore for SqliteStore {
    fn push(&self, push: Push) -> Pending<'_, Pushed> {
        self.writer.push(push)
    }

    fn clock(&self) -> Pending<'_, StoreTime> {
        Box::pin(async { Ok(StoreTime(time::unix_ms())) })
    }

    fn exchange(&self, settlements: Arc<[Settlement]>, claim: Option<Claim>) -> Pending<'_, Exchanged> {
        Box::pin(async move {
            let mut due = None;
            if settlements.is_empty() {
                // Looks before it locks: an idle worker writes nothing.
                let Some(claim) = &claim else { return Ok(Exchanged::default()) };
                let found = self.read(async |conn| queue::due(conn, claim, &HashSet::new()).await).await?;
                if found.rows.is_empty() {
                    let claims = Claims { next_due: found.next, ..Claims::default() };
                    return Ok(Exchanged { claims, generation: Some(found.generation), ..Exchanged::default() });
                }
                due = Some(found);
            }
            self.writer.run(Exchange { settlements, claim, due }, queue::exchange).await
        })
    }

    fn suspects(&self, asked: Suspects) -> Pending<'_, Suspected> {
        self.writer.run(asked, suspects::claim)
    }

    fn extend<'a>(&'a self, session: SessionId, leases: &'a [Lease], lease: Duration) -> Pending<'a, Vec<bool>> {
        Box::pin(async move {
            let Some(_turn) = time::within(BUSY, self.turn.lock()).await else {
                return Err(StoreError::transient("other writers held the file for too long", Written::Nothing));
            };
            let mut keeper = self.keeper.lock().await;
            let held = use_link(&mut keeper, async |conn| suspects::extend(conn, session, leases, lease).await).await?;
            Ok(leases.iter().map(|lease| held.contains(&(lease.row, lease.token.to_i64()))).collect())
        })
    }

    fn leave(&self, session: SessionId) -> Pending<'_, ()> {
        self.writer.run(session, suspects::leave)
    }

    fn wait(&self, seen: u64, most: Duration) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
        Box::pin(async move {
            let mut changes = self.changes.subscribe();
            let _timed_out = time::within(most, changes.wait_for(|mark| *mark != seen)).await.is_none();
            *self.changes.borrow()
        })
    }
}

impl CatalogueStore for SqliteStore {
    fn record(&self, record: Record) -> Pending<'_, Swap<()>> {
        self.writer.run(record, catalogue::record)
    }

    fn read(&self) -> Pending<'_, CatalogueState> {
        Box::pin(async move {
            let mut read = self.read(async |conn| catalogue::read(conn).await).await;
            // The row that says what the tables are was deleted, or the tables are older ones, of a backup.
            if matches!(&read, Ok(None)) || read.as_ref().is_err_and(|error| !error.is_transient()) {
                self.make_whole().await?;
                read = self.read(async |conn| catalogue::read(conn).await).await;
            }
            let Some((state, store)) = read? else {
                return Err(StoreError::transient("the catalogue is emptied again and again", Written::Nothing));
            };
            self.file.is_named(&store);
            Ok(state)
        })
    }

    fn retire(&self, handler: String, generation: u64) -> Pending<'_, Swap<bool>> {
        self.writer.run((handler, generation), catalogue::retire)
    }
}

impl About for SqliteStore {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn identity(&self) -> Identity {
        self.file.identity()
    }

    fn limits(&self) -> Limits {
        Limits { push_bytes: 256 << 20, push_deliveries: 200_000, locks: Locks::Database }
    }

    fn promise(&self) -> &str {
        self.promise
    }

    fn close(&self) {
        self.watch.end();
    }

    fn keeps(&self) -> &[Term] {
        Term::ALL
    }
}

impl AdminStore for SqliteStore {
    fn stats(&self) -> Pending<'_, Stats> {
        Box::pin(self.read_on(&self.counter, async |conn| admin::stats(conn).await))
    }

    fn pause(&self, queue: String, paused: bool) -> Pending<'_, ()> {
        self.writer.run((queue, paused), admin::pause)
    }

    fn dead_letters(&self, handler: Option<String>, limit: u32) -> Pending<'_, Vec<DeadLetter>> {
        Box::pin(async move {
            let read = async |conn: &mut _| admin::dead_letters(conn, handler.as_deref(), limit).await;
            self.read_on(&self.counter, read).await
        })
    }

    fn requeue(&self, letters: Letters, up_to: StoreTime) -> Pending<'_, Step> {
        Box::pin(async move {
            let some = self.read_on(&self.counter, async |conn| admin::some_of(conn, &letters, up_to).await).await?;
            step(some, up_to, |some| self.writer.run(some, admin::requeue)).await
        })
    }

    fn discard(&self, letters: Letters, up_to: StoreTime) -> Pending<'_, Step> {
        Box::pin(async move {
            let some = self.read_on(&self.counter, async |conn| admin::some_of(conn, &letters, up_to).await).await?;
            step(some, up_to, |some| self.writer.run(some, admin::discard)).await
        })
    }

    fn sweep(&self, retention: Retention) -> Pending<'_, Swept> {
        Box::pin(async move {
            let known = self.too_many_before.load(Ordering::Relaxed);
            let before = match known {
                0 => self.read_on(&self.counter, async |conn| admin::too_many_before(conn).await).await?,
                known => Some(known),
            };
            let swept = self.writer.run((retention, before), admin::sweep).await?;
            // The same until there is no more to sweep: to count them again takes longer than a step.
            self.too_many_before.store(before.filter(|_| swept.more).unwrap_or(0), Ordering::Relaxed);
            Ok(swept)
        })
    }
}

/// Does something with some letters, where there are any.
async fn step<'a>(
    (rows, more): (Vec<i64>, bool),
    up_to: StoreTime,
    act: impl FnOnce(admin::Chosen) -> Pending<'a, u64>,
) -> Result<Step, StoreError> {
    if rows.is_empty() {
        return Ok(Step::default());
    }
    Ok(Step { count: act((rows, up_to)).await?, more })
}

impl OutboxStore for SqliteStore {
    fn relay(&self, relay: Relay) -> Pending<'_, Relayed> {
        Box::pin(async move {
            // Looks before it locks: an idle relay writes nothing.
            if !self.told.swap(false, Ordering::Relaxed) {
                let target = outbox::known_target(&relay);
                let next = self.read(async |conn| outbox::next_row(conn, target).await).await?;
                if next != Some(Duration::ZERO) {
                    return Ok(Relayed { next_due: next, ..Relayed::default() });
                }
            }
            self.writer.run(relay, outbox::relay).await
        })
    }

    fn finish(&self, rows: Vec<OutboxRow>) -> Pending<'_, Vec<bool>> {
        self.writer.run(rows, outbox::finish)
    }

    fn put_back(&self, rows: Vec<PutBack>) -> Pending<'_, ()> {
        Box::pin(async move { if rows.is_empty() { Ok(()) } else { self.writer.run(rows, outbox::put_back).await } })
    }

    fn feed(&self, feed: Feed) -> Pending<'_, Option<Identity>> {
        Box::pin(async move {
            // Most find it written, and need no lock for that.
            let written = self.read(async |conn| outbox::fed(conn).await).await?;
            match feed {
                Feed::Ask => Ok(written),
                Feed::First(_) if written.is_some() => Ok(written),
                feed => self.writer.run(feed, outbox::feed).await,
            }
        })
    }

    fn settled(&self, deliveries: Vec<DeliveryId>) -> Pending<'_, ()> {
        Box::pin(async move {
            if deliveries.is_empty() { Ok(()) } else { self.writer.run(deliveries, outbox::settled).await }
        })
    }

    fn transact<'a>(&'a self, fence: Fence<'a>, call: TxCall<'a>) -> Pending<'a, TxEnd> {
        Box::pin(self.run_in_tx(fence, call))
    }

    fn count(&self) -> Pending<'_, u64> {
        Box::pin(self.read(async |conn| outbox::rows(conn).await))
    }

    fn database(&self) -> TypeId {
        TypeId::of::<Sqlite>()
    }

    fn tell(&self, told: Told) {
        match told {
            Told::Written => {
                self.nudges.fetch_add(1, Ordering::Relaxed);
                self.watch.stir();
            }
            Told::Committed => {
                self.told.store(true, Ordering::Relaxed);
                self.changes.send_modify(|mark| *mark += 1);
            }
        }
    }
}
