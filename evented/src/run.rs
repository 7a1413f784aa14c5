//! `run()`: the settings of an instance.

use std::{any::type_name, fmt, pin::Pin, time::Duration};

use crate::{
    app::App,
    context::States,
    error::Error,
    origin::Traces,
    start::{Role, Settings, start},
    store::{
        IntoQueue, Retention,
        tx::{Outboxed, Pool},
    },
};

/// Starts evented: `evented::run().state(..).outbox(pool).await?` at startup.
///
/// Settings come from the calls on the returned builder, else from the environment (`EVENTED_QUEUE`, `EVENTED_OUTBOX`,
/// `EVENTED_ROLE=all|emit|work`, `EVENTED_QUEUES`), else from defaults: a queue in the file `evented.db` of the working directory, opened
/// when a handler needs it, and every role.
///
/// Awaiting it checks everything and reports all problems at once, with the place of each; opens and migrates the
/// stores; records the handlers in the catalogue; starts workers and relay as the role says; and makes the instance the
/// one of this process.
///
/// # Errors
/// [`Boot`](crate::ErrorKind::Boot), with every problem in the text. Nothing was started.
pub fn run() -> Run {
    Run(Settings {
        states: States::default(),
        problems: Vec::new(),
        queue: None,
        outbox: None,
        role: None,
        grace: Duration::from_secs(25),
        lease: Duration::from_secs(30),
        queues: None,
        retention: RETENTION,
        traces: None,
        notifies: false,
        install: true,
        module: None,
        look: LOOK,
    })
}

/// How long dead letters are kept, and how many, unless said otherwise.
const RETENTION: Retention = Retention { age: Duration::from_hours(180 * 24), count: 100_000 };

/// How often deliveries that nobody takes are looked for.
const LOOK: Duration = Duration::from_mins(1);

/// The settings of an instance, started by awaiting it. Made by [`run`].
#[must_use = "evented is not started until this is awaited: add `.await`"]
pub struct Run(Settings);

impl Run {
    /// Gives handlers a value, which they take as `State<T>`. One value for each type.
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        if !self.0.states.insert(value) {
            self.0.problems.push(format!(
                "`.state(..)` was given two values of type `{}`; wrap one in a type of its own",
                type_name::<T>()
            ));
        }
        self
    }

    /// The store of background deliveries, by its URL: `sqlite:evented.db`, `sqlite:///var/lib/shop/queue.db`. A relative
    /// path is relative to the working directory: processes that share a queue name the same file. No error, log or `Debug`
    /// shows a URL's user and password, see [`StoreUrl`](crate::store::StoreUrl).
    ///
    /// `?synchronous=full` is the default: a stored delivery survives a power cut. With `normal` the last commits before
    /// a power cut may be gone, though a crash of the process loses nothing; `extra` also syncs the directory. See
    /// <https://www.sqlite.org/pragma.html#pragma_synchronous>.
    ///
    /// A file of SQLite has no clock but the host's. Where that is set back by an hour, what was stored before waits that hour
    /// longer and leases end an hour later; set forward, leases end at once and what they held runs again: let the clock be
    /// slewed. And the file has one writer: a runtime of one thread that a handler blocks, with a plain call that sleeps or
    /// computes inside an `async fn`, may hold the file's lock as long, and emits of other processes wait and then fail.
    /// Make such a handler a plain `fn`, which runs on the blocking pool.
    ///
    /// With the feature `redis`: `redis://user:password@host:6379/0`, of Redis 6.2 or later; `?prefix=shop` keeps several
    /// queues apart on one server, and is the hash tag of all keys. What a stored delivery survives is up to the server, and
    /// the start logs it: nothing is lost with `appendonly yes` and `appendfsync always`, and a server that evicts keys loses
    /// deliveries. Of a cluster, name the node that has the slot of the prefix.
    ///
    /// `postgres://user:password@host:5432/shop` with the feature `postgres`: tables named `evented_..` in the first schema
    /// of the search path. TLS, with `?sslmode=require`, needs one of sqlx's `tls` features in your Cargo.toml. Behind
    /// pgbouncer in transaction mode add `?statement-cache-capacity=0&listen=off`: other processes' changes are then found
    /// by looking: often while there is work, each 2 seconds while there is none.
    ///
    /// A store that is open already is taken too, also one of your own: see [`IntoQueue`]. A handler that asks for terms which it does
    /// not [keep](crate::store::About::keeps) is refused at the start.
    pub fn queue(mut self, queue: impl IntoQueue) -> Self {
        self.0.queue = Some(queue.into_queue());
        self
    }

    /// The application's own database, by its pool: the outbox is kept in it, and transactional handlers run in it.
    ///
    /// evented adds its tables, all named `evented_..`, and opens connections of its own with the pool's options, on which it sets what
    /// its statements depend on. Transactional handlers take a connection of the pool: give it two or more, since with one the
    /// application has none while such a handler runs, which the start says.
    ///
    /// One connection of the pool is looked at, and a pool is refused on whose connections nothing could be emitted: with
    /// `locking_mode=exclusive`, `query_only` or `.read_only(true)` on SQLite, of a role that may not insert or with a search path from
    /// `after_connect` that hides the tables on Postgres, moved to another database on MySQL. What the pool's commits survive, its
    /// `synchronous` or `synchronous_commit`, is logged with the outbox. A pool that cannot connect is an error, also a lazy one; of
    /// one whose connections are all in use for 5 seconds nothing is known, which is logged.
    ///
    /// Of a pool on which the application also begins transactions by itself, see [`begin`](crate::begin) for what it must check.
    ///
    /// On SQLite it opens up to five, the file must be in WAL mode, and transactional handlers run one at a time, each with
    /// the file's write lock for a third of the lease at the most. On Postgres it opens up to nine, the tables are in the
    /// first schema of the search path that the pool's options say, and transactional handlers run side by side, on three
    /// quarters of the pool's connections. A pool without prepared statements, `statement_cache_capacity(0)`, is taken for one behind a pooler,
    /// where other processes' changes are found by looking.
    ///
    /// On MySQL it opens up to six, and transactional handlers run side by side, on three quarters of the pool's connections, and lock
    /// the rows that they write.
    ///
    /// Without it, `EVENTED_OUTBOX` may name the database by its URL.
    pub fn outbox<Db: Outboxed>(mut self, pool: Pool<Db>) -> Self {
        if self.0.outbox.is_some() {
            self.0.problems.push("`.outbox(..)` was given two pools; an instance has one outbox".to_owned());
        }
        self.0.outbox = Some(Db::open(pool));
        self
    }

    /// On Postgres, `true`: each transaction that emits sends a NOTIFY, so that its commit itself wakes the relays of all
    /// processes, whatever library began it. Every process that emits says so for itself.
    ///
    /// Without it a transaction of [`begin`](crate::begin) tells its own process at its commit, and the others right after it;
    /// one that sqlx or another library began is noticed a few milliseconds later, or within five seconds where it goes on for
    /// longer than two. It costs throughput: at its commit a transaction that notifies takes a lock which all databases of the
    /// server share, and it cannot be prepared with `PREPARE TRANSACTION`, see
    /// <https://www.postgresql.org/docs/current/sql-notify.html>. Elsewhere it changes nothing: a file of
    /// SQLite tells by itself, and MySQL has nothing that could.
    pub fn notify_in_transaction(mut self, notify: bool) -> Self {
        self.0.notifies = notify;
        self
    }

    /// What this process does. Without it `EVENTED_ROLE` decides, else [`Role::All`].
    pub fn role(mut self, role: Role) -> Self {
        self.0.role = Some(role);
        self
    }

    /// How long a stop waits for running handlers before it drops them; 25 seconds unless said otherwise. What is dropped
    /// runs again, and the attempt is not counted.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.0.grace = grace;
        self
    }

    /// How long the lease on a running delivery is; 30 seconds unless said otherwise, at least 1 second. It is renewed
    /// while the handler runs. The deliveries of a killed worker wait for its end before they run again.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.0.lease = lease;
        self
    }

    /// The queues that this process works on, by the names in `queue = ".."`; all of them unless said otherwise. Without it
    /// `EVENTED_QUEUES=mail,default` decides. Emits and the relay are not concerned.
    pub fn queues(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.0.queues = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// For how long dead letters are kept, 180 days unless said otherwise, and how many of each store, 100,000. Older ones
    /// and those beyond are deleted, within the hour.
    pub fn keep_dead_letters(mut self, age: Duration, count: u64) -> Self {
        self.0.retention = Retention { age, count };
        self
    }

    /// Carries traces from emits to their handlers.
    pub fn traces(mut self, traces: impl Traces) -> Self {
        self.0.traces = Some(Box::new(traces));
        self
    }

    /// `false`: the instance does not become the process's own; emit through the returned [`App`]. For tests, and for
    /// several instances in one process.
    pub fn install(mut self, install: bool) -> Self {
        self.0.install = install;
        self
    }

    /// Runs only the handlers of this module and those below it: `module_path!()`. For tests, and for several instances
    /// in one process. What handlers elsewhere in the binary need is not asked for, and they are not run by this instance;
    /// but every id in the binary must be unique all the same.
    pub fn module(mut self, path: impl Into<String>) -> Self {
        self.0.module = Some(path.into());
        self
    }
}

#[cfg(feature = "testing")]
impl Run {
    /// How often what nobody takes is looked for: a test does not wait for a minute.
    #[doc(hidden)]
    pub fn looking_each(mut self, period: Duration) -> Self {
        self.0.look = period;
        self
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("queue", &self.0.queue)
            .field("role", &self.0.role)
            .field("grace", &self.0.grace)
            .field("lease", &self.0.lease)
            .field("install", &self.0.install)
            .finish_non_exhaustive()
    }
}

impl IntoFuture for Run {
    type Output = Result<App, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(start(self.0))
    }
}
