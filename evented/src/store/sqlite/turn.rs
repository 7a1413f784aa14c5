//! Whose turn it is to write to a file, in this process.
//!
//! SQLite lets one transaction write at a time, and whoever waits for it sleeps and looks again, ever less often: the lock lies
//! idle meanwhile, and who looked most lately has it. So the writers of one process stand in line here first, who came first
//! goes first, and each finds the lock free: our own connections, transactional handlers, and what
//! [`begin`](crate::begin) begins. Those of other processes, and transactions that sqlx itself began, are met at SQLite's lock,
//! which is left free for a moment now and then while the line never ends.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{Mutex as Queue, OwnedMutexGuard};

use crate::time::{self, Instant};

use super::{
    BUSY,
    writer::{GAP, WRITE_MAX},
};

/// Until when the file was left free the last time.
pub(super) type Line = Queue<Instant>;

/// The lines of this process, by every path under which a file was named: as it is, and as a pool was given it.
static LINES: Mutex<BTreeMap<PathBuf, Weak<Line>>> = Mutex::new(BTreeMap::new());

/// The line before a file, one for all stores of it in this process.
pub(super) fn line(file: &Path) -> Arc<Line> {
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.retain(|_, line| line.strong_count() > 0);
    let path = real(file);
    let found = lines.get(&path).and_then(Weak::upgrade);
    found.unwrap_or_else(|| {
        let line = Arc::new(Line::new(time::now()));
        lines.insert(path, Arc::downgrade(&line));
        line
    })
}

/// Waits for its turn at a file that a store has open, as long as for SQLite's lock. `None` where no store has, or its time
/// is over: SQLite decides then.
pub(super) async fn take(file: &Path) -> Option<OwnedMutexGuard<Instant>> {
    let line = known(file)?;
    if let Ok(mut turn) = Arc::clone(&line).try_lock_owned() {
        // Nobody had it.
        *turn = time::now();
        return Some(turn);
    }
    let mut turn = time::within(BUSY, line.lock_owned()).await?;
    if turn.elapsed() >= WRITE_MAX {
        time::sleep(GAP).await;
        *turn = time::now();
    }
    Some(turn)
}

fn known(file: &Path) -> Option<Arc<Line>> {
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(line) = lines.get(file).and_then(Weak::upgrade) {
        return Some(line);
    }
    if lines.is_empty() {
        return None;
    }
    let line = lines.get(&real(file))?.upgrade()?;
    lines.insert(file.to_owned(), Arc::downgrade(&line));
    Some(line)
}

fn real(file: &Path) -> PathBuf {
    file.canonicalize().unwrap_or_else(|_| file.to_owned())
}
