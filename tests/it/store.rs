//! What tests do with a store by hand, as the flows do it.

use std::sync::Arc;

use evented::store::{AdminStore, CatalogueEntry, Letters, OutboxStore, Record, Step, Store, StoreTime, Swap};

/// Records handlers, as a process does that begins now.
pub async fn record(store: &Store, handlers: impl Into<Arc<[CatalogueEntry]>>) {
    let handlers = handlers.into();
    while {
        let generation = store.catalogue.read().await.unwrap().generation;
        let began = StoreTime(store.queue.clock().await.unwrap().0 + 1);
        let record = Record { generation, began, handlers: Arc::clone(&handlers) };
        store.catalogue.record(record).await.unwrap() == Swap::Moved
    } {}
}

/// Retires a handler; answers whether it was there.
pub async fn retire(store: &Store, handler: &str) -> bool {
    loop {
        let generation = store.catalogue.read().await.unwrap().generation;
        if let Swap::Done(was_there) = store.catalogue.retire(handler.to_owned(), generation).await.unwrap() {
            return was_there;
        }
    }
}

/// Requeues all that is meant; answers how many it was.
pub async fn requeue(store: &Store, letters: Letters) -> u64 {
    in_steps(async || admin(store).requeue(letters.clone(), StoreTime::MAX).await.unwrap()).await
}

/// Discards all that is meant; answers how many it was.
pub async fn discard(store: &Store, letters: Letters) -> u64 {
    in_steps(async || admin(store).discard(letters.clone(), StoreTime::MAX).await.unwrap()).await
}

async fn in_steps(step: impl AsyncFn() -> Step) -> u64 {
    let mut count = 0;
    loop {
        let done = step().await;
        count += done.count;
        if !done.more {
            return count;
        }
    }
}

/// What can be asked of a store.
pub fn admin(store: &Store) -> &dyn AdminStore {
    store.admin.as_deref().expect("every store of ours can be asked")
}

/// The outbox of a store that has one.
pub fn outbox(store: &Store) -> &dyn OutboxStore {
    store.outbox.as_deref().expect("it was opened as one")
}
