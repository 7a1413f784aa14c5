//! `emit_in`: say that something happened if, and only if, the transaction commits.

use std::{
    any::Any,
    fmt,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use crate::{
    context::Context,
    emit::{Boxed, fits_when_relayed, instance_for, is_stopped, origin, payload, refuse_beyond_memory},
    error::{BoxError, Error, ErrorKind, in_one_line},
    event::{Declared, EmittedInTransaction, Event},
    guard::Guarded,
    id::EventId,
    instance::{Instance, SCOPE, Scope, catch, catch_sync},
    origin::Cause,
    registry::{fill, registry},
    slot::{Filled, InProcessCall},
    store::{
        Told,
        kind::Kind,
        tx::{InTx, NewRow, Then, in_savepoint, insert_row},
    },
    time,
};

/// Says that `event` happened, if and only if the transaction commits.
///
/// Writes one row in the caller's transaction, whatever the number of handlers; after the commit a relay delivers it.
/// Handlers on `in_process(in_transaction)` run here, inside the transaction: an error of one undoes the row and their
/// writes, and is returned; the transaction itself goes on.
///
/// ```no_run
/// # use evented::prelude::*;
/// # use serde::{Serialize, Deserialize};
/// #[event(transactional)]
/// #[derive(Serialize, Deserialize)]
/// struct PaymentCaptured { order_id: i64 }
///
/// async fn capture(pool: &evented::sqlx::SqlitePool, order_id: i64) -> evented::Result<()> {
///     let mut tx = evented::begin(pool).await?;
///     evented::sqlx::query("update orders set paid = 1 where id = ?").bind(order_id).execute(&mut *tx).await?;
///     evented::emit_in(&mut tx, PaymentCaptured { order_id }).await?;
///     tx.commit().await?;
///     Ok(())
/// }
/// ```
///
/// The transaction may be another library's: `sea-orm`'s with the feature of that name, any with an implementation of [`InTx`].
///
/// # Errors
/// [`NoOutbox`](ErrorKind::NoOutbox) when the transaction is of a database that `run()` was not given, or not the `&mut Tx`
/// that a handler inside it takes,
/// [`Handler`](ErrorKind::Handler) with the handler's error as its source, [`NotStarted`](ErrorKind::NotStarted),
/// [`Unstorable`](ErrorKind::Unstorable), [`Database`](ErrorKind::Database). Nothing is written in any of these cases.
pub fn emit_in<'t, T, E, Db>(tx: &'t mut T, event: E) -> EmitIn<'t, T, E>
where
    T: InTx<Db>,
    E: Event<Delivery: Declared<E, Kind: EmittedInTransaction<E>>>,
    Db: 't,
{
    EmitIn {
        tx,
        event: Guarded::new(event),
        instance: None,
        id: None,
        delay: Duration::ZERO,
        emit: write_row::<T, E, Db>,
    }
}

/// An emit inside a transaction that happens when it is awaited. Made by [`emit_in`].
#[must_use = "the event is not emitted until this is awaited: add `.await`"]
pub struct EmitIn<'t, T, E> {
    tx: &'t mut T,
    event: Guarded<E>,
    instance: Option<Arc<Instance>>,
    id: Option<EventId>,
    delay: Duration,
    /// `write_row::<T, E>`, as in [`Emit`].
    emit: fn(Self) -> Boxed<'t>,
}

impl<T, E> EmitIn<'_, T, E> {
    /// Uses this instance and not the one that a free emit would find.
    pub(crate) fn through(mut self, instance: &Arc<Instance>) -> Self {
        self.instance = Some(Arc::clone(instance));
        self
    }

    /// Makes the emit idempotent: as long as the event of this id waits in the outbox, emitting it again writes nothing.
    pub fn id(mut self, id: EventId) -> Self {
        self.id = Some(id);
        self
    }

    /// The event is relayed `delay` from now, at most ten years, at the earliest after the commit. Of `background` handlers with
    /// `&mut Tx`, see [`Emit::after`](crate::Emit::after).
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The event is relayed at `time`, at the earliest after the commit.
    pub fn at(self, time: SystemTime) -> Self {
        self.after(time::until(time))
    }
}

impl<'t, T, E> IntoFuture for EmitIn<'t, T, E> {
    type Output = Result<(), Error>;
    type IntoFuture = Boxed<'t>;

    fn into_future(self) -> Self::IntoFuture {
        (self.emit)(self)
    }
}

fn write_row<'t, T: InTx<Db>, E: Event, Db: 't>(emit: EmitIn<'t, T, E>) -> Boxed<'t> {
    let EmitIn { tx, event, instance, id, delay, .. } = emit;
    Box::pin(async move {
        let Some((instance, cause)) = instance_for(instance.as_ref()) else {
            return Err(Error::not_started());
        };
        if is_stopped(&instance) {
            return Err(Error::not_started());
        }
        let kind = tx.kind();
        let Some(outbox) = instance.outbox.as_ref().filter(|outbox| kind.is(outbox.rows.database())).cloned() else {
            return Err(kind.no_outbox());
        };
        let filled = E::slot().get_or_fill(fill::<E>);
        check_databases(filled, &instance, kind, tx.own().is_some())?;
        let id = id.unwrap_or_else(EventId::new);
        let origin = origin(&instance, cause.as_ref(), id);
        let cause = Cause::new(id, &origin);
        let payload = payload::<E>(&event)?;
        fits_when_relayed::<E>(&instance, &payload)?;
        if let Some(plan) = instance.plans().of(E::ID) {
            refuse_beyond_memory(&instance, &plan.background, delay)?;
        }
        let row = NewRow {
            event_id: id,
            event: E::ID,
            origin,
            version: E::VERSION,
            delay,
            outbox: outbox.about.identity(),
            known: tx.knows(&outbox.rows),
            notify: instance.notifies,
            payload: payload.into(),
        };
        // First, so that somebody is told also where this future is dropped when the row is written already.
        let tells = tx.tell(&outbox.rows);
        if !tells {
            outbox.rows.tell(Told::Written);
        }
        let handlers = filled.in_transaction.iter().filter(|entry| instance.active[entry.handler]);
        let written = if handlers.count() == 0 {
            insert_row(tx, &row).await
        } else {
            let scope = Scope { instance: Arc::clone(&instance), cause: Some(cause), in_tx: true };
            let running = Arc::clone(&instance);
            let handlers: Then =
                Box::new(move |tx| Box::pin(SCOPE.scope(scope, run_in_transaction(tx, filled, event, running))));
            in_savepoint(tx, &row, handlers).await
        };
        if written.as_ref().is_err_and(|error| error.kind() == ErrorKind::Database) {
            instance.health.doubt();
        }
        written?;
        tx.wrote(&outbox.rows);
        if !tells {
            // The commit may follow any moment.
            outbox.rows.tell(Told::Written);
        }
        Ok(())
    })
}

/// A handler that takes a `&mut Tx` which this transaction is not is refused before anything is written.
fn check_databases<E>(filled: &Filled<E>, instance: &Instance, kind: Kind, is_own: bool) -> Result<(), Error> {
    for entry in filled.in_transaction.iter().filter(|entry| instance.active[entry.handler]) {
        let handler = &registry().handlers[entry.handler];
        let other = handler.needs.databases.iter().find(|(database, _)| !is_own || !kind.is(*database));
        let Some((database, name)) = other else { continue };
        let why = if kind.is(*database) {
            "of another library; begin it with `evented::begin`, or put the handler on `outbox`, whose transaction is \
             evented's own"
                .to_owned()
        } else {
            format!("of {kind}")
        };
        let (id, place) = (&handler.id, &handler.place);
        let text =
            format!("handler `{id}` ({place}) takes a `Tx<{name}>`, but the event was emitted in a transaction {why}");
        return Err(Error::new(ErrorKind::NoOutbox, text));
    }
    Ok(())
}

/// Runs the `in_transaction` handlers until one fails.
async fn run_in_transaction<E: Event>(
    mut tx: Option<&mut (dyn Any + Send)>,
    filled: &'static Filled<E>,
    event: Guarded<E>,
    instance: Arc<Instance>,
) -> Result<(), Error> {
    for entry in filled.in_transaction.iter().filter(|entry| instance.active[entry.handler]) {
        let mut context = Context { states: &instance.states, delivery: None, tx: tx.as_deref_mut() };
        instance.calls[entry.handler].fetch_add(1, Ordering::Relaxed);
        let ended: Result<(), BoxError> = match entry.call {
            InProcessCall::Plain(call) => catch_sync(|| call(&event, &mut context)),
            InProcessCall::Async(call) => catch(|| call(&event, &mut context)).await,
        };
        if let Err(error) = ended {
            let handler = &registry().handlers[entry.handler];
            instance.failures[entry.handler].fetch_add(1, Ordering::Relaxed);
            tracing::debug!(handler = %handler.id, error = %in_one_line(&*error), "an `in_transaction` handler undid its emit");
            return Err(Error::new(ErrorKind::Handler, format!("handler `{}` failed, the emit is undone", handler.id))
                .because(error));
        }
    }
    Ok(())
}

impl<T, E> fmt::Debug for EmitIn<'_, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmitIn").field("id", &self.id).field("delay", &self.delay).finish_non_exhaustive()
    }
}
