//! Whether the loops make progress: what keeps one from it, and for how long already.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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
/// It is red while a store cannot be reached or does not answer, while emits fail, and where deliveries are due that no running
/// process takes; in every [role](crate::Role), and green again by itself when that is over. Nothing is lost meanwhile: what is
/// stored waits.
///
/// What nobody takes is looked for once a minute, and told when it was there at two looks. An application's transaction that
/// fails is its own; where an `emit_in` failed in the database, the outbox is looked at. `Display` is one line for each problem, and `ok` without one.
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
pub(crate) struct Board {
    lines: Arc<Mutex<BTreeMap<String, Doing>>>,
    /// The last emit failed, or a look since has. Read by each emit, so that those which go well take no lock.
    emits_fail: AtomicBool,
    /// An `emit_in` failed in its database since somebody looked whether the outbox can be reached.
    doubted: AtomicBool,
}

/// What one loop does.
#[derive(Default)]
struct Doing {
    /// Since when a store has owed an answer.
    asking: Option<Instant>,
    /// Since when it has failed, and how it failed last.
    failing: Option<(Instant, String)>,
    /// When it failed last.
    failed_last: Option<Instant>,
}

/// The line of the emits.
const EMITTING: &str = "storing what is emitted";

impl Board {
    /// A loop's own line on the board, until it is dropped.
    pub(crate) fn watch(&self, what: impl Into<String>) -> Trouble {
        let what = what.into();
        lock(&self.lines).insert(what.clone(), Doing::default());
        Trouble { what, board: Arc::clone(&self.lines), tries: 0 }
    }

    /// Notes how an emit went at its store: emits have no loop that would try again, so what comes next ends the trouble.
    pub(crate) fn emitted(&self, failed: Option<&StoreError>) {
        match failed {
            None if !self.emits_fail.load(Ordering::Relaxed) => {}
            None => {
                self.emits_fail.store(false, Ordering::Relaxed);
                self.set(EMITTING, None);
                tracing::info!("{EMITTING} works again");
            }
            Some(error) => {
                let text = in_one_line(error);
                if !self.emits_fail.swap(true, Ordering::Relaxed) {
                    tracing::error!(error = %text, "{EMITTING} failed; the callers were told");
                }
                self.set(EMITTING, Some(text));
            }
        }
    }

    /// Whether emits fail, as far as is known, and none has for a while: then a look tells more.
    pub(crate) fn emits_in_doubt(&self) -> bool {
        self.emits_fail.load(Ordering::Relaxed)
            && lock(&self.lines)
                .get(EMITTING)
                .is_some_and(|doing| doing.failed_last.is_some_and(|at| at.elapsed() > SILENT))
    }

    /// An `emit_in` failed in its database: that may be its transaction's own fault, or the outbox is away.
    pub(crate) fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    /// Whether the outbox was doubted since this was asked.
    pub(crate) fn doubted(&self) -> bool {
        self.doubted.swap(false, Ordering::Relaxed)
    }

    /// Puts a line on the board that belongs to no loop, or takes it off.
    pub(crate) fn set(&self, what: &str, error: Option<String>) {
        let mut lines = lock(&self.lines);
        let Some(error) = error else {
            lines.remove(what);
            return;
        };
        let doing = lines.entry(what.to_owned()).or_default();
        let since = doing.failing.take().map_or_else(time::now, |(since, _)| since);
        doing.failing = Some((since, error));
        doing.failed_last = Some(time::now());
    }

    pub(crate) fn health(&self) -> Health {
        let board = lock(&self.lines);
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
