//! Notices what other processes commit.
//!
//! The operating system tells when the write-ahead log is written, which costs nothing while nothing happens. A commit is seen
//! a little later than its last write: after that the log is synced, and then the commit is published in shared memory, of
//! which nobody is told. So after a write the file is looked at for a while, with `pragma data_version`, ever less often.
//! Never trusted alone: the file is looked at now and then all the same, and the flows above look by themselves.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use sqlx::query_scalar;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

use crate::time::{self, Instant};

use super::{file::File, link::Link, writer::Writer};

/// How often the file is looked at after a write, for how long: soon, and while a slow disk syncs.
const SOON: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));
const WHILE_SYNCED: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(300));
/// The gap after a write while this process itself commits.
const BUSY_GAP: Duration = Duration::from_millis(5);
/// How often while nothing was written.
const QUIET: Duration = Duration::from_secs(5);
/// How often where writes are not told: the operating system has no watch left, or none at all.
const UNTOLD: Duration = Duration::from_millis(25);
/// How often while the file cannot be looked at.
const BROKEN: Duration = Duration::from_secs(1);

/// The watch over one file. It ends when it is dropped.
pub(super) struct Watch {
    stirred: Arc<Notify>,
    task: AbortHandle,
}

impl Watch {
    /// Starts to bump `changes` whenever a connection committed.
    pub(super) fn start(file: &Arc<File>, writer: Arc<Writer>, changes: watch::Sender<u64>) -> Self {
        let stirred = Arc::new(Notify::new());
        let look = look(Link::new(file), file.log().to_owned(), writer, Arc::clone(&stirred), changes);
        Self { stirred, task: tokio::spawn(look).abort_handle() }
    }

    /// Looks closely for a while: a commit may come any moment.
    pub(super) fn stir(&self) {
        self.stirred.notify_one();
    }

    pub(super) fn end(&self) {
        self.task.abort();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

/// Asks to be told of writes to the [write-ahead log](https://www.sqlite.org/walformat.html#files_on_disk_in_wal_mode). The path is watched and the file not opened: to close it would let go of SQLite's own locks on it,
/// see <https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_>.
fn told_of(log: &Path, stirred: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let stirred = Arc::clone(stirred);
    let told = move |event: notify::Result<notify::Event>| {
        // An error of the watch, too, is a reason to look.
        if event.is_err() || event.is_ok_and(|event| matches!(event.kind, EventKind::Modify(_) | EventKind::Remove(_)))
        {
            stirred.notify_one();
        }
    };
    let mut watcher = notify::recommended_watcher(told).ok()?;
    watcher.watch(log, RecursiveMode::NonRecursive).ok()?;
    Some(watcher)
}

/// The version is the connection's own view, so the same connection must ask each time:
/// <https://www.sqlite.org/pragma.html#pragma_data_version>.
async fn look(mut link: Link, log: PathBuf, writer: Arc<Writer>, stirred: Arc<Notify>, changes: watch::Sender<u64>) {
    static SAID: OnceLock<()> = OnceLock::new();
    let mut watcher = None;
    let mut seen = None;
    let mut last_write: Option<Instant> = None;
    let mut marked = 0;
    loop {
        if link.leave_what_is_gone().await {
            // The writer says what is wrong, and makes the file again.
            let _looked = writer.look().await;
            (watcher, seen) = (None, None);
        }
        // The log is there from the first look on, and goes away with the last connection: it is asked for until it is.
        let version = match link.get().await {
            Ok(conn) => query_scalar::<_, i64>("pragma data_version").fetch_one(conn).await,
            Err(error) => Err(error),
        };
        if watcher.is_none() || !log.exists() {
            watcher = told_of(&log, &stirred);
        }
        let gap = match version {
            Ok(version) => {
                if seen.replace(version) != Some(version) {
                    changes.send_modify(|mark| *mark += 1);
                }
                marked = *changes.borrow();
                let since = last_write.map_or(Duration::MAX, |at| at.elapsed());
                match (&watcher, since) {
                    (_, since) if since < SOON.1 => SOON.0,
                    (_, since) if since < WHILE_SYNCED.1 => WHILE_SYNCED.0,
                    (Some(_), _) => QUIET,
                    (None, _) => {
                        SAID.get_or_init(|| {
                            tracing::debug!(log = %log.display(), "writes to the log are not told; it is looked at each {UNTOLD:?}");
                        });
                        UNTOLD
                    }
                }
            }
            Err(error) => {
                link.mend(&error);
                seen = None;
                // Whoever reads or writes says what is wrong.
                BROKEN
            }
        };
        if time::within(gap, stirred.notified()).await.is_some() {
            last_write = Some(time::now());
            // Where this process commits all the time, its flows look all the time.
            let busy = *changes.borrow() != marked;
            time::sleep(if busy { BUSY_GAP } else { SOON.0 }).await;
        }
    }
}
