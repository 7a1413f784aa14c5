//! `adopt`: a person says that an outbox feeds another queue from now on.

use crate::{
    error::{Error, ErrorKind},
    store::{Feed, open_outbox, open_queue},
};

/// Makes the outbox at the URL `outbox` feed the queue at the URL `queue` from now on, in the place of the one that it fed.
///
/// An outbox remembers its queue, and [`run()`](crate::run) refuses a process that names another: what that process relayed would
/// go where the workers of the others do not look. Stop all processes and call this once, when the old queue is gone for good, was
/// restored under another identity, or is to be left behind:
///
/// - Deliveries that wait in the old queue stay there. No process that names the new queue runs them.
/// - Events that were on their way from the outbox to the old queue go to the new one. Where the old one had stored an event
///   already, its handlers may run twice: once there, once here.
///
/// The new queue may be the outbox's own database. A queue in a file that does not exist is made.
///
/// ```no_run
/// # async fn example() -> evented::Result<()> {
/// evented::adopt("sqlite:shop.db", "redis://localhost").await?; // the outbox, then its new queue
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Boot`](ErrorKind::Boot) when one of them cannot be opened; [`Store`](ErrorKind::Store) when the outbox cannot be written.
/// Call it again then: a part of the events may be on their way to the old queue still.
pub async fn adopt(outbox: &str, queue: &str) -> Result<(), Error> {
    let failed =
        |what: &str| Error::new(ErrorKind::Boot, format!("nothing is adopted: the {what} could not be opened"));
    let outbox = open_outbox(outbox).await.map_err(|error| failed("outbox").because(error))?;
    let outbox = outbox.into_outbox().ok_or_else(|| failed("outbox"))?;
    let queue = open_queue(queue).await.map_err(|error| failed("queue").because(error))?;
    let told = async {
        let before = outbox.rows.feed(Feed::Ask).await?;
        outbox.rows.feed(Feed::Adopt(queue.about.identity())).await.map(|_| before)
    };
    let told = told.await;
    if let Ok(before) = &told {
        let before = before.as_ref().filter(|before| **before != queue.about.identity());
        tracing::info!(
            outbox = outbox.about.name(),
            queue = queue.about.name(),
            before = before.map(tracing::field::display),
            "the outbox feeds this queue from now on; what waits in the one before stays there"
        );
    }
    outbox.about.close();
    queue.about.close();
    Ok(told.map(drop)?)
}
