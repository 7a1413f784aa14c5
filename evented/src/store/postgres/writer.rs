//! Group commit: pushes that arrive together are stored together.
//!
//! Callers send a push and wait for its answer. The writer takes all that is waiting, stores it in one statement and
//! answers each. A lone push is stored at once, never held back for company; while one commit is under way the next group
//! gathers by itself. When a group is refused, each of its pushes is tried by itself, so that a bad one fails alone.

use tokio::sync::{mpsc, oneshot};

use crate::{
    error::{StoreError, Written},
    store::{
        Pending, Push, Pushed,
        room::{Place, Room},
    },
    time,
};

use super::{
    link::{CONNECT, Link},
    push::push,
};

/// At most so many deliveries in one commit.
const ROWS_MAX: usize = 1_000;
/// At most so many bytes of payloads in one commit, unless a single push has more.
const BYTES_MAX: usize = 8 << 20;

type Reply = oneshot::Sender<Result<Pushed, StoreError>>;

pub(super) struct Writer {
    /// Unbounded, since nobody sends without a place in the room.
    pushes: mpsc::UnboundedSender<Waiting>,
    room: Room,
}

struct Waiting {
    push: Push,
    reply: Reply,
    _place: Place,
}

impl Writer {
    /// Starts the writer, which calls `stored` after each commit.
    pub(super) fn start(link: Link, stored: impl Fn() + Send + Sync + 'static) -> Self {
        let (sender, pushes) = mpsc::unbounded_channel();
        tokio::spawn(write_until_closed(link, pushes, stored));
        Self { pushes: sender, room: Room::new() }
    }

    pub(super) fn push(&self, push: Push) -> Pending<'_, Pushed> {
        Box::pin(async move {
            let place = self.room.enter(&push).await?;
            let (reply, answer) = oneshot::channel();
            let sent = self.pushes.send(Waiting { push, reply, _place: place }).is_ok();
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

async fn write_until_closed(link: Link, mut pushes: mpsc::UnboundedReceiver<Waiting>, stored: impl Fn()) {
    while let Some(first) = pushes.recv().await {
        let (mut rows, mut bytes) = size(&first.push);
        let mut group = vec![first];
        while rows < ROWS_MAX && bytes < BYTES_MAX {
            let Ok(next) = pushes.try_recv() else { break };
            let more = size(&next.push);
            (rows, bytes) = (rows + more.0, bytes + more.1);
            group.push(next);
        }
        let began = time::now();
        let Some((error, failed)) = store(&link, group, &stored).await else { continue };
        // A server that was silent for as long as we wait: what waits behind has waited, too, and is told so at once. Not what
        // comes when somebody has been told.
        let mut behind = Vec::new();
        if error.is_transient() && began.elapsed() >= CONNECT {
            behind.extend(std::iter::from_fn(|| pushes.try_recv().ok()));
        }
        refuse(failed, &error, error.written());
        refuse(behind, &error, Written::Nothing);
    }
}

fn size(push: &Push) -> (usize, usize) {
    (push.deliveries.len(), push.deliveries.iter().map(|delivery| delivery.payload.len()).sum())
}

/// Answers pushes that were not stored.
fn refuse(pushes: Vec<Waiting>, error: &StoreError, written: Written) {
    for Waiting { reply, .. } in pushes {
        let new = if error.is_transient() { StoreError::transient } else { StoreError::lasting };
        let _gone = reply.send(Err(new(crate::error::in_one_line(error), written)));
    }
}

/// Stores a group, or what can be stored of it, and answers each push; with the error that is for all of them, and those who are to
/// be told.
async fn store(link: &Link, group: Vec<Waiting>, stored: &impl Fn()) -> Option<(StoreError, Vec<Waiting>)> {
    let error = match try_store(link, &group, stored).await {
        Ok(answers) => {
            for (Waiting { reply, .. }, answer) in group.into_iter().zip(answers) {
                // Whoever asked may have gone away: the push stands all the same.
                let _gone = reply.send(Ok(answer));
            }
            return None;
        }
        Err(error) => error,
    };
    // One that may pass is nobody's fault: what waits behind would wait for the same.
    let somebodys = !error.is_transient() && error.written() == Written::Nothing;
    if group.len() > 1 && somebodys {
        for one in group {
            if let Some((error, one)) = Box::pin(store(link, vec![one], stored)).await {
                refuse(one, &error, error.written());
            }
        }
        return None;
    }
    Some((error, group))
}

async fn try_store(link: &Link, group: &[Waiting], stored: &impl Fn()) -> Result<Vec<Pushed>, StoreError> {
    let pushes: Vec<_> = group.iter().map(|waiting| &waiting.push).collect();
    let answers = push(link, &pushes).await?;
    if answers.iter().any(Pushed::is_stored) {
        stored();
    }
    Ok(answers)
}
