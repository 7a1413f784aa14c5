//! What can be given as the queue: a store's URL, or a store.

use super::{Store, StoreUrl};

/// What [`run().queue(..)`](crate::Run::queue) takes: a URL, as `&str`, `String` or [`StoreUrl`], or a [`Store`] that is open
/// already, of evented's own or of yours.
///
/// ```no_run
/// # async fn example() -> evented::Result<()> {
/// let app = evented::run().queue("redis://localhost").await?;
/// let queue = evented::store::open_queue("sqlite:queue.db").await?;
/// let other = evented::run().install(false).queue(&queue).await?;
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no queue",
    label = "neither a store's URL nor a `Store`",
    note = "write a URL like `sqlite:queue.db`, `postgres://localhost/shop` or `redis://localhost`",
    note = "a pool of the application is given to `.outbox(pool)`; where its database is to be the queue as well, name it by its URL",
    note = "a store of your own is given as `evented::store::Store::new(&store)`, which needs `About`, `QueueStore` and `CatalogueStore`"
)]
pub trait IntoQueue {
    /// What it is.
    fn into_queue(self) -> Queue;
}

/// A queue that is named or open.
#[derive(Debug, Clone)]
pub enum Queue {
    /// It is opened at the start.
    Url(StoreUrl),
    /// It is open.
    Store(Store),
}

macro_rules! urls {
    ($($kind:ty)*) => {$(
        impl IntoQueue for $kind {
            fn into_queue(self) -> Queue {
                Queue::Url(self.into())
            }
        }
    )*};
}
urls!(&str String &String StoreUrl);

impl IntoQueue for Store {
    fn into_queue(self) -> Queue {
        Queue::Store(self)
    }
}

impl IntoQueue for &Store {
    fn into_queue(self) -> Queue {
        Queue::Store(self.clone())
    }
}
