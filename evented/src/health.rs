//! Whether the loops make progress: what keeps one from it, and for how long already.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    error::{StoreError, in_one_line},
    time::{self, Instant},
};

/// The waits between two tries.
const FIRST: Duration = Duration::from_millis(100);
const MAX: Duration = Duration::from_secs(5);
/// A store that has not answered for so long is in trouble, though it has not refused.
const SILENT: Duration = Duration::from_secs(5);

/// Whether an instance makes progress: [`App::health`](crate::App::health).
///
/// It is red while a store cannot be reached or does not answer, and green again by itself when it does. Nothing is lost
/// meanwhile: what is stored waits. `Display` is one line for each problem, and `ok` without one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// What is in the way; empty when all is well.
    pub problems: Vec<Problem>,
}

/// What keeps a loop of evented from its work.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// What cannot be done, with the store: `working off redis://localhost:6379`.
    pub what: String,
    /// For how long.
    pub lasts: Duration,
    /// Why, in one line.
    pub error: String,
}

impl Health {
    /// Whether all loops make progress.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.problems.is_empty() {
            return f.write_str("ok");
        }
        for (index, problem) in self.problems.iter().enumerate() {
            let line = if index == 0 { "" } else { "\n" };
            write!(f, "{line}{} fails for {:?}: {}", problem.what, problem.lasts, problem.error)?;
        }
        Ok(())
    }
}

/// What the loops of an instance do, each by its name.
#[derive(Default)]
pub(crate) struct Board(Arc<Mutex<BTreeMap<String, Doing>>>);

/// What one loop does.
#[derive(Default)]
struct Doing {
    /// Since when a store has owed an answer.
    asking: Option<Instant>,
    /// Since when it has failed, and how it failed last.
    failing: Option<(Instant, String)>,
}

impl Board {
    /// A loop's own line on the board, until it is dropped.
    pub(crate) fn watch(&self, what: impl Into<String>) -> Trouble {
        let what = what.into();
        lock(&self.0).insert(what.clone(), Doing::default());
        Trouble { what, board: Arc::clone(&self.0), tries: 0 }
    }

    pub(crate) fn health(&self) -> Health {
        let board = lock(&self.0);
        let problems = board.iter().filter_map(|(what, doing)| {
            let silent = doing.asking.filter(|since| since.elapsed() > SILENT);
            let (since, error) = match (&doing.failing, silent) {
                (Some((since, error)), _) => (*since, error.clone()),
                (None, Some(since)) => (since, "it does not answer".to_owned()),
                (None, None) => return None,
            };
            Some(Problem { what: what.clone(), lasts: since.elapsed(), error })
        });
        Health { problems: problems.collect() }
    }
}

/// A loop's dealings with a store: while it fails, an episode with one line in the log at its start, one at its end, and ever
/// longer waits between the tries.
pub(crate) struct Trouble {
    what: String,
    board: Arc<Mutex<BTreeMap<String, Doing>>>,
    tries: u32,
}

impl Trouble {
    /// Asks a store, and notes how that went. An error comes with the wait before the next try.
    pub(crate) async fn ask<T>(
        &mut self,
        asking: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, (Duration, StoreError)> {
        self.write(|doing| doing.asking = Some(time::now()));
        let answer = asking.await;
        self.write(|doing| doing.asking = None);
        match answer {
            Ok(answer) => {
                self.over();
                Ok(answer)
            }
            Err(error) => Err((self.note(&error), error)),
        }
    }

    fn note(&mut self, error: &StoreError) -> Duration {
        let text = in_one_line(error);
        if self.tries == 0 {
            tracing::error!(error = %text, "{} failed; trying again until it works", self.what);
        }
        self.write(|doing| {
            let since = doing.failing.as_ref().map_or_else(time::now, |(since, _)| *since);
            doing.failing = Some((since, text));
        });
        self.tries = self.tries.saturating_add(1);
        let wait = FIRST.saturating_mul(1_u32.checked_shl(self.tries - 1).unwrap_or(u32::MAX));
        wait.min(MAX)
    }

    fn over(&mut self) {
        if self.tries > 0 {
            tracing::info!(tries = self.tries, "{} works again", self.what);
            self.tries = 0;
            self.write(|doing| doing.failing = None);
        }
    }

    fn write(&self, change: impl FnOnce(&mut Doing)) {
        if let Some(doing) = lock(&self.board).get_mut(&self.what) {
            change(doing);
        }
    }
}

impl Drop for Trouble {
    fn drop(&mut self) {
        lock(&self.board).remove(&self.what);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
