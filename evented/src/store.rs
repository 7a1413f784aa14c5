//! The boundary: what a store promises to the flows above it, and nothing about how it keeps it.
//!
//! A store's clock is its own. Stores take durations and answer with times of their clock; a worker's idea of now is
//! never written. Each promise below has a test of that name.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    error::{Act, StoreError},
    id::{DeliveryId, EventId, Key, LeaseToken},
    origin::Origin,
    retry::Policy,
    terms::Priority,
};

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod borrowed;
pub mod kind;
#[cfg(feature = "mysql")]
mod mysql;
mod outbox;
pub(crate) mod placed;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sea-orm")]
pub mod sea_orm;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod tx;
mod url;

pub use outbox::{Fan, FanOut, OutboxRow, OutboxStore, Relay, Relayed, TxCall, TxEnd};
pub use url::StoreUrl;

pub use sqlx;

/// A future of a store's method.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Where deliveries wait, are leased and are settled.
pub trait QueueStore: Send + Sync + 'static {
    /// Stores all of the batch or nothing, in one commit. A delivery whose id is there already is left as it is, and so
    /// is, where the push says [`once`](Push::once), one that such a push has stored before, even if it is settled by now.
    /// One whose [unique key](UniqueKey) another took is not stored until the time of that is over: neither the end of the
    /// other, nor pushing it again, changes its time.
    ///
    /// At a crash before the answer: all or nothing is stored, and pushing again is safe.
    fn push(&self, push: Push) -> Pending<'_, Pushed>;

    /// Settles each delivery whose lease is still held and answers for each whether it was; then, if asked, leases
    /// deliveries that are due. One commit and one round trip for both, so that a worker's next batch costs no more than the
    /// end of its last.
    ///
    /// A late settlement changes nothing. The claim takes each delivery for itself alone, until `lease` from now by the
    /// store's clock: only deliveries of the named handlers, of payload versions that they read, of queues that are not
    /// paused; of deliveries with one order key only the one that was stored first. A delivery whose lease has ended counts
    /// as due, and says so in [`Claimed::lost`]. What is settled here is left for another claim.
    ///
    /// The first of an order key holds it across retries, releases, delays and lost leases; completed or dead, it lets the
    /// next go, when that is due by its own delay. What waits for its turn is not due.
    ///
    /// At a crash before the answer: all or nothing is settled. What is not settled runs again when its lease ends, and a
    /// lease that nobody heard of ends by itself.
    fn exchange(&self, settlements: Arc<[Settlement]>, claim: Option<Claim>) -> Pending<'_, Exchanged>;

    /// Renews leases until `lease` from now. Answers for each whether it is still held; a lost one stays lost.
    ///
    /// Does not queue behind `push` and `exchange`. Where one write transaction locks the whole store, as in SQLite,
    /// it waits for that one, and fails when it takes too long.
    fn extend<'a>(&'a self, leases: &'a [Lease], lease: Duration) -> Pending<'a, Vec<bool>>;

    /// Notes whether a delivery which outlived a lease runs now, alone in its process: should this lease end while it does,
    /// that is one of its [`deaths`](Claimed::deaths). Answers whether the lease is still held.
    fn runs_alone(&self, lease: Lease, runs: bool) -> Pending<'_, bool>;

    /// Forgets that these deliveries were pushed once: nobody will push them again. At a crash: they are remembered until
    /// a [`sweep`](Admin::sweep) after [`ONCE_RETENTION`].
    fn forget(&self, deliveries: Vec<DeliveryId>) -> Pending<'_, ()>;

    /// Waits until the store may have changed since the mark `seen`, at most for `most`, and answers the new mark.
    ///
    /// No change is missed: one that comes between two waits ends the second at once. Never fails; a store that cannot
    /// be reached is quiet.
    fn wait(&self, seen: u64, most: Duration) -> Pin<Box<dyn Future<Output = u64> + Send + '_>>;
}

/// What a store knows of all processes: their handlers.
pub trait Catalogue: Send + Sync + 'static {
    /// Records handlers, so that every process's emits and relays know them. One that was retired is back.
    fn record(&self, handlers: Arc<[CatalogueEntry]>) -> Pending<'_, ()>;

    /// Every handler ever recorded, with the generation that [`Push::generation`] refers to.
    fn catalogue(&self) -> Pending<'_, CatalogueState>;

    /// Takes a handler from the catalogue: nothing is stored for it any more. Answers whether it was there.
    fn retire(&self, handler: String) -> Pending<'_, bool>;

    /// The store's kind and place, for logs; the same text for the same store, and no password.
    fn name(&self) -> &str;

    /// What a stored delivery survives with the store's settings, for `run()` to print.
    fn promise(&self) -> &str;

    /// Ends what the store does by itself, when its instance has stopped. It can still be asked.
    fn close(&self);
}

/// What a person looks at and decides, from any process, also while no worker runs.
pub trait Admin: Send + Sync + 'static {
    /// Deliveries by handler, waiting and settled, and the queues that are paused.
    fn stats(&self) -> Pending<'_, Stats>;

    /// Pauses a queue, or resumes it: while it is paused no delivery of it is claimed, in any process, also of those that
    /// start meanwhile. What runs goes on.
    fn pause(&self, queue: String, paused: bool) -> Pending<'_, ()>;

    /// The newest dead letters, at most `limit`: all, or those of one handler.
    fn dead_letters(&self, handler: Option<String>, limit: u32) -> Pending<'_, Vec<DeadLetter>>;

    /// Makes dead letters deliveries again, due at once, with all their attempts before them; behind those that wait for
    /// their order key. Answers how many there were.
    fn requeue(&self, letters: Letters) -> Pending<'_, u64>;

    /// Deletes dead letters. Answers how many there were.
    fn discard(&self, letters: Letters) -> Pending<'_, u64>;

    /// Deletes what is kept no longer: dead letters beyond `retention`, unique keys whose time is over, deliveries pushed
    /// once longer ago than [`ONCE_RETENTION`], and those of other stores that ran longer ago than [`INBOX_RETENTION`]. At a crash: what is left is deleted by the next.
    fn sweep(&self, retention: Retention) -> Pending<'_, Swept>;
}

/// A store that can be the queue: [`run().queue(..)`](crate::Run::queue) takes its URL.
pub trait Store: QueueStore + Catalogue + Admin {}
impl<S: QueueStore + Catalogue + Admin> Store for S {}

/// A batch to store.
#[derive(Debug, Clone)]
pub struct Push {
    /// The generation of the catalogue from which the deliveries were planned.
    pub generation: u64,
    /// The push may be repeated, by a relay or by a caller who chose the event's id: remember its deliveries.
    pub once: bool,
    /// What to store.
    pub deliveries: Arc<[NewDelivery]>,
}

/// How long a store remembers the deliveries of a push that may be repeated.
pub const ONCE_RETENTION: Duration = Duration::from_hours(7 * 24);

/// How long a database remembers which deliveries of another store ran in it. An older delivery is not run.
pub const INBOX_RETENTION: Duration = Duration::from_hours(30 * 24);

/// The answer to a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// All of it is stored.
    Stored,
    /// Nothing was stored: the catalogue has changed since the push was planned; read it and plan again.
    CatalogueMoved,
}

/// A delivery to store.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    /// Derived from the event's and the handler's id.
    pub id: DeliveryId,
    /// The event's id.
    pub event_id: EventId,
    /// The handler's id, as the catalogue has it.
    pub handler: Arc<str>,
    /// Where the event comes from.
    pub origin: Origin,
    /// The payload's version.
    pub version: u32,
    /// When the event was emitted, by the clock of the store that took it first; `None`: now.
    pub emitted_unix_ms: Option<i64>,
    /// How long until it is due.
    pub delay: Duration,
    /// How it is run.
    pub policy: Policy,
    /// Stored only where no other delivery has had this key lately.
    pub unique: Option<UniqueKey>,
    /// It waits for every delivery of this key that was stored before it.
    pub order: Option<Key>,
    /// The encoded event.
    pub payload: Arc<[u8]>,
}

/// A key that stands for several deliveries, for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UniqueKey {
    /// The handler's and the field's value.
    pub key: Key,
    /// How long the first delivery of the key stands for the others, from when it was stored.
    pub within: Duration,
}

/// What to claim.
#[derive(Debug, Clone)]
pub struct Claim {
    /// For each queue: its handlers, and how many deliveries there is room for.
    pub queues: Vec<ClaimQueue>,
    /// How long the lease is.
    pub lease: Duration,
}

/// One queue's part of a claim.
#[derive(Debug, Clone)]
pub struct ClaimQueue {
    /// The queue's name: nothing is claimed while it is paused.
    pub name: Arc<str>,
    /// Its handlers, those of higher priority first.
    pub handlers: Vec<ClaimHandler>,
    /// At most so many. Evenly from the handlers of one priority, and of a lower one only what a higher one leaves.
    pub wanted: usize,
}

/// One handler's part of a claim.
#[derive(Debug, Clone)]
pub struct ClaimHandler {
    /// The name under which its deliveries are stored: its id, or an alias.
    pub name: Arc<str>,
    /// The highest payload version that it reads.
    pub version: u32,
    /// Before which others it comes.
    pub priority: Priority,
    /// At most so many of its own.
    pub wanted: usize,
}

/// The answer to an exchange.
#[derive(Debug, Default)]
pub struct Exchanged {
    /// For each settlement, whether its lease was still held.
    pub held: Vec<bool>,
    /// What was claimed.
    pub claims: Claims,
}

/// What was claimed.
#[derive(Debug, Default)]
pub struct Claims {
    /// What was leased, oldest first within a handler.
    pub deliveries: Vec<Claimed>,
    /// How long until another delivery of the asked handlers is due, as far as was known before this claim; zero when more
    /// is due than was wanted, `None` when there was no other.
    pub next_due: Option<Duration>,
}

/// A leased delivery.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The lease on it.
    pub lease: Lease,
    /// The event's id.
    pub event_id: EventId,
    /// The handler's id as it was stored: perhaps an alias of a linked one.
    pub handler: Arc<str>,
    /// Where the event comes from.
    pub origin: Origin,
    /// The payload's version.
    pub version: u32,
    /// When the event was emitted, by the store's clock.
    pub emitted_unix_ms: i64,
    /// Attempts that failed so far.
    pub failed: u32,
    /// A lease on it ended without a settlement, and it has not run to an end since.
    pub lost: bool,
    /// How often its lease ended so while it ran alone in its process.
    pub deaths: u32,
    /// The policy that was stored with it.
    pub policy: Policy,
    /// The encoded event.
    pub payload: Vec<u8>,
}

/// A time-limited claim on a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The store's own handle of its row.
    pub row: i64,
    /// The fence: it must match for every change.
    pub token: LeaseToken,
    /// Others may wait for its end, since it has an order key.
    pub ordered: bool,
}

/// What became of a leased delivery.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The lease that must still be held.
    pub lease: Lease,
    /// What became of it.
    pub outcome: Outcome,
}

/// The ways to settle.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Done: the delivery is deleted and counted.
    Completed,
    /// The attempt failed: due again after `delay`.
    Retry {
        /// How long until it is due.
        delay: Duration,
        /// What failed, in one line.
        error: String,
    },
    /// Not tried again until a person says so.
    Dead {
        /// How many attempts failed in all.
        failed: u32,
        /// What failed, in one line.
        error: String,
    },
    /// Not run, or stopped by a shutdown: due at once, no attempt is counted.
    Released,
}

/// A handler as the catalogue knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// The handler's id.
    pub handler: Arc<str>,
    /// Its earlier ids.
    pub aliases: Vec<String>,
    /// The id of its event.
    pub event: String,
    /// The event's earlier ids.
    pub event_aliases: Vec<String>,
    /// `background` or `outbox`.
    pub route: Route,
    /// The queue's name.
    pub queue: String,
    /// How its deliveries are run.
    pub policy: Policy,
    /// The field of the payload by which its deliveries are unique, and for how long.
    pub unique: Option<(String, Duration)>,
    /// The field of the payload by which its deliveries are ordered.
    pub ordered_by: Option<String>,
}

/// How an event reaches a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Route {
    /// Inside `emit`, or inside `emit_in` for `in_process(in_transaction)`.
    InProcess,
    /// In a worker, after `emit` stored it.
    Background,
    /// In a worker, after the emitter's commit.
    Outbox,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::InProcess => "in_process",
            Self::Background => "background",
            Self::Outbox => "outbox",
        })
    }
}

/// The catalogue as it was read.
#[derive(Debug, Clone, Default)]
pub struct CatalogueState {
    /// Grows with each change.
    pub generation: u64,
    /// Every handler that is not retired.
    pub handlers: Vec<CatalogueEntry>,
    /// The ids of those that are.
    pub retired: Vec<String>,
}

/// A handler's deliveries in one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCount {
    /// The handler's id.
    pub handler: String,
    /// The event's id.
    pub event: String,
    /// Its route.
    pub route: Route,
    /// Its queue, as it was recorded.
    pub queue: String,
    /// Stored and not leased, delayed ones included.
    pub waiting: u64,
    /// Leased now.
    pub running: u64,
    /// Completed since the store was made.
    pub done: u64,
    /// Failed attempts that were, or will be, tried again.
    pub retried: u64,
    /// Dead letters since the store was made.
    pub dead: u64,
    /// For how long the delivery that is due for the longest time has been so; `None` where none is due.
    pub due_for: Option<Duration>,
}

/// What a store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// By handler, sorted by its id.
    pub handlers: Vec<StoredCount>,
    /// The names of the paused queues, sorted.
    pub paused: Vec<String>,
}

/// Which dead letters are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Letters {
    /// The one of this delivery.
    One(DeliveryId),
    /// All of this handler.
    Of(String),
}

/// How long dead letters are kept, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Older ones are deleted.
    pub age: Duration,
    /// Beyond so many of a store, the oldest are deleted.
    pub count: u64,
}

/// What a sweep deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Dead letters.
    pub dead_letters: u64,
}

/// A delivery that will not be tried again until a person says so.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The delivery.
    pub id: DeliveryId,
    /// The event's id.
    pub event_id: EventId,
    /// The handler's id.
    pub handler: String,
    /// The id of its event's type.
    pub event: String,
    /// Attempts that failed.
    pub attempts: u32,
    /// Why, in one line.
    pub error: String,
    /// When, by the store's clock.
    pub died_at: SystemTime,
    /// The encoded event.
    pub payload: Vec<u8>,
}

/// What a claim takes of a queue, from the due deliveries of each of its handlers, oldest first: by priority, and evenly among
/// the handlers of one, so that a long backlog starves no neighbour. Answers also whether more is due than was taken.
#[cfg(any(feature = "sqlite", feature = "mysql"))]
pub(crate) fn pick<T: Copy>(queue: &ClaimQueue, due: &[Vec<T>]) -> (Vec<T>, bool) {
    let mut picked = Vec::new();
    let mut priorities: Vec<_> = queue.handlers.iter().map(|handler| handler.priority).collect();
    priorities.sort_unstable_by(|a, b| b.cmp(a));
    priorities.dedup();
    for priority in priorities {
        let of_it = queue.handlers.iter().zip(due).filter(|(handler, _)| handler.priority == priority);
        let lists: Vec<&[T]> = of_it.map(|(handler, due)| &due[..due.len().min(handler.wanted)]).collect();
        let longest = lists.iter().map(|list| list.len()).max().unwrap_or(0);
        let turns = (0..longest).flat_map(|turn| lists.iter().filter_map(move |list| list.get(turn).copied()));
        picked.extend(turns.take(queue.wanted - picked.len()));
    }
    // A handler that has all it may run at once says itself when it has room again.
    let takable: usize = queue.handlers.iter().zip(due).map(|(handler, due)| due.len().min(handler.wanted)).sum();
    let more = takable > picked.len()
        || queue
            .handlers
            .iter()
            .zip(due)
            .any(|(handler, due)| due.len() > handler.wanted && handler.wanted >= queue.wanted);
    (picked, more)
}

/// The queue that is used when nothing says otherwise.
pub(crate) const QUEUE_DEFAULT: &str = "sqlite:evented.db";

/// Opens the queue store of a URL, as [`run().queue(..)`](crate::Run::queue) does: for tests and tools.
///
/// # Errors
/// When the URL is of no kind that this build keeps, or the store cannot be opened or migrated. The URL's secrets are not in
/// the text.
#[must_use]
pub fn open_queue(url: impl Into<StoreUrl>) -> Pending<'static, Arc<dyn Store>> {
    let url = url.into();
    Box::pin(async move {
        url.check("queue")?;
        let opened = match url.scheme() {
            #[cfg(feature = "sqlite")]
            "sqlite" => sqlite::SqliteStore::open_queue(&url).await.map(|store| store as Arc<dyn Store>),
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => {
                postgres::PostgresStore::open_queue(&url).await.map(|store| store as Arc<dyn Store>)
            }
            #[cfg(feature = "redis")]
            "redis" => redis::RedisStore::open_queue(&url).await.map(|store| store as Arc<dyn Store>),
            _ => return Err(no_store(&url, "queue")),
        };
        opened.map_err(|error: StoreError| error.at(Act::Open("opening the queue"), &url.to_string()))
    })
}

/// Opens the outbox of a URL, for a process that has no pool of its own to give. The database must exist.
///
/// # Errors
/// When the URL is of no kind that this build keeps, or the outbox cannot be opened or migrated. The URL's secrets are not in
/// the text.
#[must_use]
pub fn open_outbox(url: impl Into<StoreUrl>) -> Pending<'static, Arc<dyn OutboxStore>> {
    let url = url.into();
    Box::pin(async move {
        url.check("outbox")?;
        let opened = match url.scheme() {
            #[cfg(feature = "sqlite")]
            "sqlite" => sqlite::SqliteStore::open_outbox_url(&url).await.map(|store| store as Arc<dyn OutboxStore>),
            #[cfg(feature = "mysql")]
            "mysql" | "mariadb" => {
                mysql::MySqlStore::open_outbox_url(&url).await.map(|store| store as Arc<dyn OutboxStore>)
            }
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => {
                postgres::PostgresStore::open_outbox_url(&url).await.map(|store| store as Arc<dyn OutboxStore>)
            }
            _ => return Err(no_store(&url, "outbox")),
        };
        opened.map_err(|error: StoreError| error.at(Act::Open("opening the outbox"), &url.to_string()))
    })
}

/// Whether a queue of this URL was opened before: nothing is created by asking.
pub(crate) fn exists(url: &str) -> bool {
    let path = url.strip_prefix("sqlite:").unwrap_or(url);
    std::path::Path::new(path).exists()
}

fn no_store(url: &StoreUrl, what: &str) -> StoreError {
    let off = |feature: &str| {
        format!("the {what} `{url}` needs the feature `{feature}` of `evented`, which is off; turn it on in Cargo.toml")
    };
    let text = match url.scheme() {
        "sqlite" => off("sqlite"),
        "mysql" | "mariadb" if what == "queue" => format!(
            "the queue `{url}` is of MySQL, which keeps the outbox alone; give the pool to `.outbox(pool)`, and name another \
             queue, like `sqlite:queue.db`"
        ),
        "mysql" | "mariadb" => off("mysql"),
        "postgres" | "postgresql" if cfg!(not(feature = "postgres")) => off("postgres"),
        "redis" if what == "queue" => {
            "a queue on redis needs the feature `redis` of `evented`, which is off; turn it on in Cargo.toml".to_owned()
        }
        "rediss" => format!(
            "the {what} `rediss:..` asks for TLS, which is not built in; use `redis://` on a network that you trust, or \
             through a tunnel"
        ),
        "redis" => "redis keeps a queue and no outbox: the outbox is in the application's own database".to_owned(),
        "" => format!(
            "the {what}'s URL `{url}` does not say what it is; write a file as `sqlite:path`, a server as \
             `postgres://user:password@host/database`"
        ),
        _ if what == "queue" => format!(
            "the queue `{url}` is of no kind that this release keeps; write one like `sqlite:queue.db`, \
             `postgres://localhost/shop` or `redis://localhost`"
        ),
        _ => format!(
            "the {what} `{url}` is of no kind that this release keeps; write one like `sqlite:shop.db` or \
             `postgres://localhost/shop`"
        ),
    };
    StoreError::lasting(text, crate::error::Written::Nothing)
}
