//! `adopt`: a person says that an outbox feeds another queue from now on.

use crate::{
    error::{Error, ErrorKind},
    store::{Feed, open_outbox, open_queue},
};

/// Makes the outbox at the URL `outbox` feed the queue at the URL `queue` from now on, in the place of the one that it fed.
///
/// An outbox remembers its queue, and [`run()`](crate::run) refuses a process that names another: what that process relayed would
/// go where the workers of the others do not look. Call this once, while no process runs, where the old queue is gone for
/// good, was emptied or restored under another identity, or may keep what waits in it: nothing is moved from it. Events that
/// were on their way to the old queue go to the new one, also where the old one has them: what it had run of them runs
/// again. The new queue may be the outbox's own database.
///
/// ```no_run
/// # async fn example() -> evented::Result<()> {
/// evented::adopt("sqlite:shop.db", "redis://localhost").await?;
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
    let queue = open_queue(queue).await.map_err(|error| failed("queue").because(error))?;
    let told = outbox.feed(Feed::Adopt(queue.identity())).await;
    if told.is_ok() {
        tracing::info!(outbox = outbox.name(), queue = queue.name(), "the outbox feeds this queue from now on");
    }
    outbox.close();
    queue.close();
    Ok(told.map(drop)?)
}
