//! How much may wait before a store's writer. A server that takes what is sent and never answers must not fill the process's memory:
//! whoever finds no room waits a little, and is told then that nothing was written.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    error::{StoreError, Written},
    store::Push,
    time,
};

/// So many pushes may wait for their answer.
const PUSHES_MAX: usize = 10_000;
/// So many KiB of them. One that is larger waits until it is alone.
const KIB_MAX: u32 = 64 * 1024;
/// What a delivery weighs beside its payload.
const DELIVERY_BYTES: usize = 256;
/// How long to wait for room while nobody leaves.
const WAIT: Duration = Duration::from_secs(2);

pub(super) struct Room {
    pushes: Arc<Semaphore>,
    kib: Arc<Semaphore>,
    left: Arc<AtomicU64>,
}

/// A place in the room, given back when the push is answered.
pub(super) struct Place {
    _push: OwnedSemaphorePermit,
    _kib: OwnedSemaphorePermit,
    left: Arc<AtomicU64>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            pushes: Arc::new(Semaphore::new(PUSHES_MAX)),
            kib: Arc::new(Semaphore::new(KIB_MAX as usize)),
            left: Arc::default(),
        }
    }

    /// Who came first goes first.
    pub(super) async fn enter(&self, push: &Push) -> Result<Place, StoreError> {
        let bytes: usize = push.deliveries.iter().map(|delivery| delivery.payload.len() + DELIVERY_BYTES).sum();
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(KIB_MAX).min(KIB_MAX);
        let entering = async {
            let push = Arc::clone(&self.pushes).acquire_owned().await.ok()?;
            let kib = Arc::clone(&self.kib).acquire_many_owned(kib).await.ok()?;
            Some(Place { _push: push, _kib: kib, left: Arc::clone(&self.left) })
        };
        let mut entering = pin!(entering);
        loop {
            let left = self.left.load(Ordering::Relaxed);
            match time::within(WAIT, entering.as_mut()).await {
                Some(Some(place)) => return Ok(place),
                // A long line that moves is none that stands.
                None if self.left.load(Ordering::Relaxed) != left => {}
                Some(None) | None => break,
            }
        }
        let text = format!(
            "{PUSHES_MAX} pushes or {} MiB of them already wait for the store, and none was answered within {WAIT:?}",
            KIB_MAX / 1024
        );
        Err(StoreError::transient(text, Written::Nothing))
    }
}
