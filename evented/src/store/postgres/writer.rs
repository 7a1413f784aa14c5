//! Group commit: pushes that arrive together are stored together.
//!
//! Callers send a push and wait for its answer. The writer takes all that is waiting, stores it in one statement and
//! answers each. A lone push is stored at once, never held back for company; while one commit is under way the next group
//! gathers by itself. When a group is refused, each of its pushes is tried by itself, so that a bad one fails alone.

use tokio::sync::{mpsc, oneshot};

use crate::{
    error::{StoreError, Written},
    store::{Pending, Push, Pushed},
};

use super::{link::Link, push::push};

/// At most so many deliveries in one commit.
const ROWS_MAX: usize = 1_000;
/// At most so many bytes of payloads in one commit, unless a single push has more.
const BYTES_MAX: usize = 8 << 20;

type Reply = oneshot::Sender<Result<Pushed, StoreError>>;

pub(super) struct Writer(mpsc::UnboundedSender<(Push, Reply)>);

impl Writer {
    /// Starts the writer, which calls `stored` after each commit.
    pub(super) fn start(link: Link, stored: impl Fn() + Send + Sync + 'static) -> Self {
        let (sender, pushes) = mpsc::unbounded_channel();
        tokio::spawn(write_until_closed(link, pushes, stored));
        Self(sender)
    }

    pub(super) fn push(&self, push: Push) -> Pending<'_, Pushed> {
        let (reply, answer) = oneshot::channel();
        let sent = self.0.send((push, reply)).is_ok();
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

async fn write_until_closed(link: Link, mut pushes: mpsc::UnboundedReceiver<(Push, Reply)>, stored: impl Fn()) {
    while let Some(first) = pushes.recv().await {
        let (mut rows, mut bytes) = size(&first.0);
        let mut group = vec![first];
        while rows < ROWS_MAX && bytes < BYTES_MAX {
            let Ok(next) = pushes.try_recv() else { break };
            let more = size(&next.0);
            (rows, bytes) = (rows + more.0, bytes + more.1);
            group.push(next);
        }
        store(&link, group, &stored).await;
    }
}

fn size(push: &Push) -> (usize, usize) {
    (push.deliveries.len(), push.deliveries.iter().map(|delivery| delivery.payload.len()).sum())
}

/// Stores a group, or what can be stored of it, and answers each push.
async fn store(link: &Link, group: Vec<(Push, Reply)>, stored: &impl Fn()) {
    let error = match try_store(link, &group, stored).await {
        Ok(answers) => {
            for ((_, reply), answer) in group.into_iter().zip(answers) {
                // Whoever asked may have gone away: the push stands all the same.
                let _gone = reply.send(Ok(answer));
            }
            return;
        }
        Err(error) => error,
    };
    // One that may pass is nobody's fault: what waits behind would wait for the same.
    let somebodys = !error.is_transient() && error.written() == Written::Nothing;
    if group.len() > 1 && somebodys {
        for one in group {
            Box::pin(store(link, vec![one], stored)).await;
        }
        return;
    }
    for (_, reply) in group {
        let new = if error.is_transient() { StoreError::transient } else { StoreError::lasting };
        let said = crate::error::in_one_line(&error);
        let _gone = reply.send(Err(new(said, error.written())));
    }
}

async fn try_store(link: &Link, group: &[(Push, Reply)], stored: &impl Fn()) -> Result<Vec<Pushed>, StoreError> {
    let pushes: Vec<_> = group.iter().map(|(push, _)| push).collect();
    let answers = push(link, &pushes).await?;
    if answers.contains(&Pushed::Stored) {
        stored();
    }
    Ok(answers)
}
