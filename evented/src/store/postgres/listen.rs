//! What changed: told within this process at once, and between processes by LISTEN and NOTIFY.
//!
//! Nothing relies on a notification. It is sent after the commit that it tells of, by a task of its own and never twice at a
//! time: at its commit, NOTIFY takes a lock that all of a server's databases share, which no push should wait for. One
//! that is lost costs at most the time until the worker looks by itself.

use std::{
    sync::{
        Arc, Mutex as SyncMutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{
    Executor as _,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

use crate::{
    error::in_one_line,
    id::LeaseToken,
    time::{self, Instant},
};

use super::{
    link::{CONNECT, Link, Plans},
    place::Place,
};

/// How often a silent connection is asked whether it is there: one that a network has forgotten says nothing.
const ALIVE: Duration = Duration::from_secs(30);
/// The waits between two tries to listen.
const AGAIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// Without listening, how soon after a change the store may have changed again, and how seldom in the end.
const LOOK: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_secs(2);

/// The store's mark, and who moves it.
pub(super) struct Changes {
    mark: watch::Sender<u64>,
    notify: Arc<Notify>,
    /// Where others are not listened for: when the store may have changed.
    look: SyncMutex<Look>,
    listens: bool,
    begun: AtomicBool,
    tasks: SyncMutex<Vec<AbortHandle>>,
    place: Arc<Place>,
    /// It is of our tables: where others take their place, it is another.
    channel: SyncMutex<String>,
    moved: Notify,
    /// Tells our own notifications from others'.
    me: String,
}

struct Look {
    at: Instant,
    after: Duration,
}

impl Changes {
    pub(super) fn start(place: &Arc<Place>, channel: String) -> Arc<Self> {
        let changes = Arc::new(Self {
            mark: watch::channel(0).0,
            notify: Arc::default(),
            look: SyncMutex::new(Look { at: time::after(LOOK), after: LOOK }),
            listens: place.listen,
            begun: AtomicBool::new(false),
            tasks: SyncMutex::default(),
            place: Arc::clone(place),
            channel: SyncMutex::new(channel),
            moved: Notify::new(),
            me: format!("{:016x}", LeaseToken::mint().to_i64()),
        });
        let notifier = notify(Link::new(place, Plans::Free), Arc::downgrade(&changes), Arc::clone(&changes.notify));
        changes.keep(tokio::spawn(notifier).abort_handle());
        changes
    }

    /// Something has changed that others may wait for.
    pub(super) fn tell(&self) {
        self.expect_more();
        self.bump();
        self.notify.notify_one();
    }

    /// Where there was something, there may soon be more: looking begins anew to grow seldom.
    pub(super) fn expect_more(&self) {
        *lock(&self.look) = Look { at: time::after(LOOK), after: LOOK };
    }

    /// From now on changes are told on this channel.
    pub(super) fn tell_on(&self, channel: &str) {
        let mut current = lock(&self.channel);
        if *current != channel {
            channel.clone_into(&mut current);
            self.moved.notify_one();
        }
    }

    fn bump(&self) {
        self.mark.send_modify(|mark| *mark += 1);
    }

    pub(super) async fn wait(self: &Arc<Self>, seen: u64, most: Duration) -> u64 {
        // From when somebody asks for the first time.
        if self.listens && !self.begun.swap(true, Ordering::Relaxed) {
            self.keep(tokio::spawn(Arc::clone(self).listen()).abort_handle());
        }
        let mut mark = self.mark.subscribe();
        let until = time::after(most);
        loop {
            let wait = until.saturating_duration_since(time::now());
            let look = if self.listens { wait } else { wait.min(self.look()) };
            let changed = time::within(look, mark.wait_for(|mark| *mark != seen)).await.is_some();
            if changed || look == wait {
                return *self.mark.borrow();
            }
        }
    }

    /// How long until the store may have changed; when that is now, it may have.
    fn look(&self) -> Duration {
        let mut look = lock(&self.look);
        let now = time::now();
        if look.at <= now {
            look.after = (look.after * 2).min(LOOK_MAX);
            look.at = time::after(look.after);
            self.bump();
        }
        look.at.saturating_duration_since(now)
    }

    async fn listen(self: Arc<Self>) {
        let mut again = AGAIN;
        loop {
            match self.listen_once(&mut again).await {
                Ok(()) => {
                    tracing::debug!(store = %self.place.name, "the listening connection fell silent; listening again");
                }
                Err(error) => tracing::debug!(store = %self.place.name, error = %in_one_line(&error),
                    "cannot listen for other processes' changes; trying again, and looking for them meanwhile"),
            }
            time::sleep(again).await;
            again = (again * 2).min(AGAIN_MAX);
        }
    }

    /// Listens until the connection is lost.
    async fn listen_once(&self, again: &mut Duration) -> Result<(), sqlx::Error> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(CONNECT)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(self.place.options.clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        let channel = lock(&self.channel).clone();
        match time::within(CONNECT, listener.listen(&channel)).await {
            Some(listening) => listening?,
            None => return Ok(()),
        }
        *again = AGAIN;
        // Whatever was told before is lost.
        self.bump();
        loop {
            let heard = tokio::select! {
                heard = time::within(ALIVE, listener.try_recv()) => heard,
                () = self.moved.notified() => return Ok(()),
            };
            match heard {
                Some(Ok(Some(told))) if told.payload() == self.me => {}
                Some(Ok(Some(_))) => self.bump(),
                Some(Ok(None)) => return Ok(()),
                Some(Err(error)) => return Err(error),
                None => {
                    let Some(alive) = time::within(CONNECT, listener.execute("select 1")).await else { return Ok(()) };
                    alive?;
                }
            }
        }
    }

    /// Ends the task at the close.
    pub(super) fn keep(&self, task: AbortHandle) {
        lock(&self.tasks).push(task);
    }

    /// Ends what goes on by itself.
    pub(super) fn close(&self) {
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
    }
}

async fn notify(link: Link, changes: Weak<Changes>, asked: Arc<Notify>) {
    loop {
        asked.notified().await;
        let Some(told) = changes.upgrade().map(|changes| (lock(&changes.channel).clone(), changes.me.clone())) else {
            return;
        };
        // Its commit does not wait for the disk: a crash of the server ends the listening connections as well.
        let told = link.run(&told, |session, (channel, me)| {
            Box::pin(async move {
                let text = "select set_config('synchronous_commit', 'off', true), pg_notify($1, $2)";
                session.sql(text).bind(channel).bind(me).execute(&mut session.conn).await
            })
        });
        if let Err(error) = told.await {
            tracing::debug!(error = %in_one_line(&error), "other processes could not be told of a change");
        }
    }
}

fn lock<T>(mutex: &SyncMutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
