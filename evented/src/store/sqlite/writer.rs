//! The one connection that writes: it commits together what arrives together.
//!
//! Callers send a write and wait for its answer. The writer waits for its turn, takes all that is waiting, runs it in one
//! `BEGIN IMMEDIATE .. COMMIT` and answers each. A single write is committed at once, never held back for company; while
//! one commit is under way the next group gathers by itself. When a group fails, it is rolled back and each of its
//! writes is tried by itself, so that one bad write fails alone.
//!
//! To other writers of the file we leave gaps: after about 10 ms of writing, the lock is left free for a moment.

use std::{ops::ControlFlow, pin::Pin, sync::Arc, time::Duration};

use sqlx::{Connection, Error as SqlxError, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::{mpsc, oneshot};

use crate::{
    error::{StoreError, Written},
    store::{
        Pending, Push, Pushed,
        room::{Place, Room},
    },
    time,
};

use super::{BUSY, queue, turn::Line};

/// At most so many deliveries in one commit.
const ROWS_MAX: usize = 1_000;
/// At most so many writes in one commit.
const WRITES_MAX: usize = 500;
/// Writing for so long is followed by a gap.
pub(super) const WRITE_MAX: Duration = Duration::from_millis(10);
/// The gap for other writers: SQLite's busy handler looks again each few milliseconds.
pub(super) const GAP: Duration = Duration::from_millis(1);

pub(super) type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T, SqlxError>> + Send + 'a>>;

/// A write: what it reads, and the statements that it runs inside the group's transaction. It may run twice.
pub(super) type Run<I, O> = for<'a> fn(&'a mut SqliteConnection, &'a I) -> Running<'a, O>;

pub(super) struct Writer {
    /// Unbounded: no push is sent without a place in the room, and what else is written is asked for by our own loops, each of which
    /// waits for its answer.
    writes: mpsc::UnboundedSender<Write>,
    room: Room,
}

enum Write {
    Push(
        Push,
        oneshot::Sender<Result<Pushed, StoreError>>,
        #[expect(dead_code, reason = "given back when the push is answered")] Place,
    ),
    Other(Box<dyn Work>),
}

/// A write whose types are erased.
trait Work: Send {
    fn run<'a>(&'a mut self, conn: &'a mut SqliteConnection) -> Running<'a, ()>;
    fn answer(self: Box<Self>, end: Result<(), StoreError>);
}

struct Job<I, O> {
    input: I,
    run: Run<I, O>,
    output: Option<O>,
    reply: oneshot::Sender<Result<O, StoreError>>,
}

impl<I: Send + Sync, O: Send> Work for Job<I, O> {
    fn run<'a>(&'a mut self, conn: &'a mut SqliteConnection) -> Running<'a, ()> {
        Box::pin(async move {
            self.output = Some((self.run)(conn, &self.input).await?);
            Ok(())
        })
    }

    fn answer(self: Box<Self>, end: Result<(), StoreError>) {
        let Self { output, reply, .. } = *self;
        // Whoever asked may have gone away: the write stands all the same.
        let _gone = reply.send(end.map(|()| output.expect("a committed write has run")));
    }
}

impl Writer {
    /// Starts the writer. `turn` is held while the write lock is: transactional handlers of this process take it too.
    pub(super) fn start(link: Link, turn: Arc<Line>, committed: impl Fn() + Send + Sync + 'static) -> Self {
        let (sender, writes) = mpsc::unbounded_channel();
        tokio::spawn(write_until_closed(link, turn, writes, committed));
        Self { writes: sender, room: Room::new() }
    }

    pub(super) fn push(&self, push: Push) -> Pending<'_, Pushed> {
        Box::pin(async move {
            let place = self.room.enter(&push).await?;
            let (reply, answer) = oneshot::channel();
            self.send(Write::Push(push, reply, place), answer).await
        })
    }

    pub(super) fn run<I, O>(&self, input: I, run: Run<I, O>) -> Pending<'_, O>
    where
        I: Send + Sync + 'static,
        O: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.send(Write::Other(Box::new(Job { input, run, output: None, reply })), answer)
    }

    fn send<O: Send + 'static>(
        &self,
        write: Write,
        answer: oneshot::Receiver<Result<O, StoreError>>,
    ) -> Pending<'_, O> {
        let sent = self.writes.send(write).is_ok();
        Box::pin(async move {
            let stopped = |written| {
                let text = "the store was closed: evented has stopped, or the tokio runtime in which it was started has \
                            ended (each `#[tokio::test]` has its own)";
                StoreError::lasting(text, written)
            };
            if !sent {
                return Err(stopped(Written::Nothing));
            }
            answer.await.unwrap_or_else(|_| Err(stopped(Written::Unknown)))
        })
    }
}

/// A connection that is opened when it is needed, and again after it broke.
pub(super) struct Link {
    options: SqliteConnectOptions,
    conn: Option<SqliteConnection>,
}

impl Link {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self { options, conn: None }
    }

    pub(super) async fn get(&mut self) -> Result<&mut SqliteConnection, SqlxError> {
        // One whose transaction could not be rolled back, as on a full disk, is of no more use; nor is one that was left half way.
        if self.conn.as_ref().is_none_or(Connection::is_in_transaction) {
            self.conn = Some(SqliteConnection::connect_with(&self.options).await?);
        }
        Ok(self.conn.as_mut().expect("it was just opened"))
    }

    /// Forgets the connection after `error`, unless the error says that the connection itself is well.
    pub(super) fn mend(&mut self, error: &SqlxError) {
        if !is_busy(error) {
            self.conn = None;
        }
    }
}

async fn write_until_closed(
    mut link: Link,
    turn: Arc<Line>,
    mut writes: mpsc::UnboundedReceiver<Write>,
    committed: impl Fn(),
) {
    let mut written_for = Duration::ZERO;
    while let Some(first) = writes.recv().await {
        let Some(held) = time::within(BUSY, turn.lock()).await else {
            refuse_all(vec![first], &mut writes);
            continue;
        };
        // What has come in while others wrote goes with it.
        let mut rows = first.rows();
        let mut group = vec![first];
        while rows < ROWS_MAX && group.len() < WRITES_MAX {
            let Ok(write) = writes.try_recv() else { break };
            rows += write.rows();
            group.push(write);
        }
        let began = time::now();
        if commit(&mut link, group, &committed).await.is_break() {
            refuse_all(Vec::new(), &mut writes);
        }
        written_for += began.elapsed();
        drop(held);
        if writes.is_empty() {
            written_for = Duration::ZERO;
        } else if written_for >= WRITE_MAX {
            time::sleep(GAP).await;
            written_for = Duration::ZERO;
        }
    }
}

/// The lock was held by others for as long as we wait: what waits behind has waited, too, and is told so at once.
fn refuse_all(group: Vec<Write>, writes: &mut mpsc::UnboundedReceiver<Write>) {
    let waiting = std::iter::from_fn(|| writes.try_recv().ok());
    for write in group.into_iter().chain(waiting) {
        write.refuse(StoreError::transient(LOCKED, Written::Nothing));
    }
}

/// Commits a group, or what can be committed of it, and answers each write. Breaks when the lock could not be had.
async fn commit(link: &mut Link, mut group: Vec<Write>, committed: &impl Fn()) -> ControlFlow<()> {
    let (error, stage) = match try_commit(link, &mut group).await {
        Ok(pushed) => {
            committed();
            let mut pushed = pushed.into_iter();
            for write in group {
                match write {
                    Write::Push(_, reply, _) => {
                        let _gone = reply.send(Ok(pushed.next().expect("each push has an answer")));
                    }
                    Write::Other(work) => work.answer(Ok(())),
                }
            }
            return ControlFlow::Continue(());
        }
        Err(failed) => failed,
    };
    if group.len() > 1 && matches!(stage, Stage::Statements) {
        for write in group {
            // None of these finds the lock taken for long: it was just held.
            let _flow = Box::pin(commit(link, vec![write], committed)).await;
        }
        return ControlFlow::Continue(());
    }
    link.mend(&error);
    for write in group {
        write.refuse(write_failed(&error, &stage));
    }
    if matches!(stage, Stage::Begin) && is_busy(&error) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// How far a group came before it failed.
enum Stage {
    Begin,
    Statements,
    Commit,
}

async fn try_commit(link: &mut Link, group: &mut [Write]) -> Result<Vec<Pushed>, (SqlxError, Stage)> {
    let at = |stage| move |error| (error, stage);
    let conn = link.get().await.map_err(at(Stage::Begin))?;
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await.map_err(at(Stage::Begin))?;
    let mut pushes = Vec::new();
    for write in group {
        match write {
            Write::Push(push, ..) => pushes.push(&*push),
            Write::Other(work) => {
                if let Err(error) = work.run(&mut tx).await {
                    // Its end is waited for: a connection that is still inside is not used again.
                    let _open = tx.rollback().await.is_err();
                    return Err((error, Stage::Statements));
                }
            }
        }
    }
    let answers = match queue::push(&mut tx, &pushes).await {
        Ok(answers) => answers,
        Err(error) => {
            let _open = tx.rollback().await.is_err();
            return Err((error, Stage::Statements));
        }
    };
    tx.commit().await.map_err(at(Stage::Commit))?;
    Ok(answers)
}

impl Write {
    fn refuse(self, error: StoreError) {
        match self {
            Self::Push(_, reply, _) => {
                let _gone = reply.send(Err(error));
            }
            Self::Other(work) => work.answer(Err(error)),
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::Push(push, ..) => push.deliveries.len(),
            Self::Other(_) => 1,
        }
    }
}

/// SQLite's result codes, without their extension: <https://www.sqlite.org/rescode.html>.
fn code(error: &SqlxError) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

const SQLITE_BUSY: i32 = 5;
const CONSTRAINT: i32 = 19;
const READONLY: i32 = 8;
const CORRUPT: i32 = 11;
const CANTOPEN: i32 = 14;
const NOTADB: i32 = 26;
const ERROR: i32 = 1;

/// Another writer held the lock for longer than the busy timeout.
pub(super) fn is_busy(error: &SqlxError) -> bool {
    code(error) == Some(SQLITE_BUSY)
}

/// The connection or its file cannot be written to.
pub(super) fn is_readonly(error: &SqlxError) -> bool {
    code(error) == Some(READONLY)
}

/// A constraint of the application's tables, perhaps a deferred one at the commit.
pub(super) fn is_constraint(error: &SqlxError) -> bool {
    code(error) == Some(CONSTRAINT)
}

/// The one place that decides whether an error of SQLite may pass.
fn is_transient(error: &SqlxError) -> bool {
    !matches!(code(error), Some(ERROR | READONLY | CORRUPT | CANTOPEN | NOTADB))
}

const LOCKED: &str = "the database stayed locked by another write transaction; if it is your own, emit inside it with \
                      `emit_in(&mut tx, event)`, or after its commit";

fn write_failed(error: &SqlxError, stage: &Stage) -> StoreError {
    let written = match stage {
        Stage::Commit if !is_busy(error) => Written::Unknown,
        _ => Written::Nothing,
    };
    let text = if is_busy(error) { LOCKED } else { "the database refused the write" };
    let new = if is_transient(error) { StoreError::transient } else { StoreError::lasting };
    new(text, written).because(error.to_string())
}

/// A failure outside the writer's transaction: nothing was written.
pub(super) fn read_failed(text: &str, error: &SqlxError) -> StoreError {
    let new = if is_transient(error) { StoreError::transient } else { StoreError::lasting };
    new(text, Written::Nothing)
}
