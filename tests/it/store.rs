//! What tests do with a store by hand, as the flows do it.

use std::sync::Arc;

use evented::store::{CatalogueEntry, Letters, Record, Step, Store, StoreTime, Swap};

/// Records handlers, as a process does that begins now.
pub async fn record(store: &dyn Store, handlers: impl Into<Arc<[CatalogueEntry]>>) {
    let handlers = handlers.into();
    while {
        let generation = store.catalogue().await.unwrap().generation;
        let began = StoreTime(store.clock().await.unwrap().0 + 1);
        let record = Record { generation, began, handlers: Arc::clone(&handlers) };
        store.record(record).await.unwrap() == Swap::Moved
    } {}
}

/// Retires a handler; answers whether it was there.
pub async fn retire(store: &dyn Store, handler: &str) -> bool {
    loop {
        let generation = store.catalogue().await.unwrap().generation;
        if let Swap::Done(was_there) = store.retire(handler.to_owned(), generation).await.unwrap() {
            return was_there;
        }
    }
}

/// Requeues all that is meant; answers how many it was.
pub async fn requeue(store: &dyn Store, letters: Letters) -> u64 {
    in_steps(async || store.requeue(letters.clone(), StoreTime::MAX).await.unwrap()).await
}

/// Discards all that is meant; answers how many it was.
pub async fn discard(store: &dyn Store, letters: Letters) -> u64 {
    in_steps(async || store.discard(letters.clone(), StoreTime::MAX).await.unwrap()).await
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
