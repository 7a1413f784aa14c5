//! One attempt: a handler runs until it ends, or until its time is up, its lease is lost or its worker stops.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use tokio::sync::watch;
use tracing::Span;

use crate::{
    context::Context,
    def::ErasedCall,
    delivery::Delivery,
    error::{BoxError, HandlerResult, StoreError, tamed},
    guard::Guarded,
    instance::{Instance, SCOPE, Scope, catch, catch_sync},
    store::{Fence, Lease, Outbox, TxCall, TxEnd},
};

use super::lease::Hold;

/// What ends an attempt from outside.
pub(super) struct Interrupts {
    pub timeout: Duration,
    pub delivery: Delivery,
    pub hold: Arc<Hold>,
    pub aborting: watch::Receiver<bool>,
}

#[derive(Debug)]
pub(super) enum Interrupt {
    TimedOut(Duration),
    Lost,
    Stopped,
}

impl fmt::Display for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(timeout) => write!(f, "timed out after {timeout:?}"),
            Self::Lost => f.write_str("its lease was lost"),
            Self::Stopped => f.write_str("its worker was stopped"),
        }
    }
}

impl std::error::Error for Interrupt {}

impl Interrupts {
    /// The handler's end, or the interruption that came first; the handler's future is dropped then, or never begun.
    pub(super) async fn or(mut self, running: impl Future<Output = HandlerResult>) -> HandlerResult {
        if self.hold.is_lost() {
            return Err(Interrupt::Lost.into());
        }
        tokio::select! {
            biased;
            ended = running => ended,
            () = self.hold.lost() => Err(Interrupt::Lost.into()),
            () = self.delivery.time_is_up() => Err(Interrupt::TimedOut(self.timeout).into()),
            _ = self.aborting.wait_for(|abort| *abort) => Err(Interrupt::Stopped.into()),
        }
    }
}

/// An event that was decoded for a handler, which may leave it to us to drop.
pub(super) type Decoded = Guarded<Box<dyn Any + Send>>;

pub(super) async fn run_async(
    call: &'static dyn ErasedCall,
    mut event: Decoded,
    delivery: Delivery,
    instance: Arc<Instance>,
    tx: Option<&mut (dyn Any + Send)>,
) -> HandlerResult {
    delivery.begin();
    let mut context = Context { states: &instance.states, delivery: Some(delivery), tx };
    catch(|| call.start(&mut **event, &mut context)).await.map_err(tamed)
}

/// Runs a transactional handler: with the lease of a delivery beside its data, or once for one of another store.
pub(super) async fn run_in_tx(
    outbox: &Outbox,
    lease: Option<Lease>,
    call: &'static dyn ErasedCall,
    event: Decoded,
    delivery: Delivery,
    scope: Scope,
    interrupts: Interrupts,
) -> Result<TxEnd, StoreError> {
    let id = delivery.id();
    // The mark of a run is forgotten some time after its delivery was settled, and whoever was stopped for longer than that, or
    // slept, would not find it: only who still has the lease goes on. From here on the transaction is what another run waits for.
    let fenced_by_its_mark = lease.is_none();
    let in_tx: TxCall<'_> = Box::new(move |tx| {
        Box::pin(async move {
            if fenced_by_its_mark && interrupts.hold.may_be_lost() {
                return Err(Interrupt::Lost.into());
            }
            let running = run_async(call, event, delivery, Arc::clone(&scope.instance), Some(tx));
            SCOPE.scope(scope, interrupts.or(running)).await
        })
    });
    let fence = lease.as_ref().map_or(Fence::Once(id), Fence::Lease);
    outbox.rows.transact(fence, in_tx).await
}

/// Runs a plain function on the blocking pool, where a free `emit` finds its instance too. When this future is dropped,
/// the function goes on to its end, in its slot, and its result is discarded.
pub(super) async fn run_blocking(
    call: &'static dyn ErasedCall,
    mut event: Decoded,
    delivery: Delivery,
    scope: Scope,
    span: Span,
    hold: Arc<Hold>,
    slot: impl Send + 'static,
) -> HandlerResult {
    let running = tokio::task::spawn_blocking(move || {
        let _slot = slot;
        if hold.is_lost() {
            return Err(Interrupt::Lost.into());
        }
        let _entered = span.entered();
        delivery.begin();
        let instance = Arc::clone(&scope.instance);
        SCOPE.sync_scope(scope, || {
            let mut context = Context { states: &instance.states, delivery: Some(delivery), tx: None };
            // Nobody may wait any more: what is returned is dropped by the runtime then.
            catch_sync(|| call.run_blocking(&mut **event, &mut context)).map_err(tamed)
        })
    });
    running.await.map_err(BoxError::from)?
}
