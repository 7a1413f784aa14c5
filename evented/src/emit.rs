//! `emit` and `emit_all`: say that something happened.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::{Duration, SystemTime},
};

use crate::{
    dispatch,
    error::{BoxError, Error, ErrorKind},
    event::{Declared, EmittedDirectly, Event},
    exact::Refused,
    guard::{Guarded, guarded},
    id::EventId,
    instance::{Instance, SCOPE, Scope, installed, scope},
    origin::{Cause, Origin},
    plan::{Fact, Planned, Plans},
    registry::{Linked, fill, registry},
    slot::Filled,
    store::{INBOX_RETENTION, Limits, Locks, NewDelivery, Outbox, Payload, Push, Pushed, Store},
    time,
};

/// The largest payload that is stored. A larger one belongs beside the event: store it and put its key in the event.
const PAYLOAD_MAX: usize = 256 * 1024;
/// The most events of one `emit_all`.
const EVENTS_MAX: usize = 10_000;
/// How often an emit plans again because the catalogue moved under it, before it gives up.
const PLANS_MAX: usize = 10;

/// Says that `event` happened.
///
/// Stores the deliveries of its background handlers in one write, runs its in-process handlers, then returns. When it
/// returns `Ok`, the stored deliveries survive a crash of the process. A handler's failure never fails the emitter.
///
/// Uses the instance whose handler is running, else the one that [`run()`](crate::run) started. Without one, an event
/// that has only in-process handlers without state is emitted all the same.
///
/// ```
/// # use evented::prelude::*;
/// #[event]
/// struct OrderPlaced { order_id: u64 }
///
/// #[handler(OrderPlaced)]
/// fn count(event: &OrderPlaced) { println!("order {}", event.order_id); }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> evented::Result<()> {
/// evented::emit(OrderPlaced { order_id: 17 }).await?;
/// # Ok(()) }
/// ```
///
/// An event that is declared transactional is emitted with [`emit_in`](crate::emit_in()):
///
/// ```compile_fail,E0277
/// # use evented::prelude::*;
/// #[event(transactional)]
/// struct PaymentCaptured { order_id: u64 }
///
/// async fn capture() -> evented::Result<()> {
///     evented::emit(PaymentCaptured { order_id: 17 }).await
/// }
/// ```
///
/// # Errors
/// [`NotStarted`](ErrorKind::NotStarted), [`NotStored`](ErrorKind::NotStored) and [`Unstorable`](ErrorKind::Unstorable):
/// nothing was stored and no handler ran. [`Unknown`](ErrorKind::Unknown): emit it again with the same
/// [`id`](Emit::id). Dropping the future before it is done leaves the same doubt.
pub fn emit<E: Event<Delivery: Declared<E, Kind: EmittedDirectly<E>>>>(event: E) -> Emit<E> {
    Emit { event: Guarded::new(event), instance: None, id: None, delay: Duration::ZERO, start: start::<E> }
}

/// Says that each of `events` happened: their deliveries are stored in one write, all or nothing. At most 10,000.
///
/// # Errors
/// As [`emit`].
pub fn emit_all<I>(events: I) -> EmitAll<I::Item>
where
    I: IntoIterator<Item: Event<Delivery: Declared<I::Item, Kind: EmittedDirectly<I::Item>>>>,
{
    EmitAll {
        events: events.into_iter().map(Guarded::new).collect(),
        instance: None,
        emit: store_and_run_all::<I::Item>,
    }
}

/// An emit that happens when it is awaited. Made by [`emit`].
#[must_use = "the event is not emitted until this is awaited: add `.await`"]
pub struct Emit<E> {
    event: Guarded<E>,
    instance: Option<Arc<Instance>>,
    id: Option<EventId>,
    delay: Duration,
    /// `start::<E>`. Kept here, so that what awaits needs no bound on `E`: a type that is no event is one error, not two.
    start: fn(Self) -> Started,
}

impl<E> Emit<E> {
    /// Uses this instance and not the one that a free emit would find.
    pub(crate) fn through(mut self, instance: &Arc<Instance>) -> Self {
        self.instance = Some(Arc::clone(instance));
        self
    }

    /// Makes the emit idempotent: emitting the same id again stores nothing, for 7 days, as long as it is among the newest million
    /// deliveries of such emits in its queue. A line in the log says how many were forgotten sooner. In-process handlers run each
    /// time.
    pub fn id(mut self, id: EventId) -> Self {
        self.id = Some(id);
        self
    }

    /// Stored deliveries are due `delay` from now, at most ten years. In-process handlers run at once.
    ///
    /// [`Unstorable`](ErrorKind::Unstorable) from 30 days on, where a `background` handler takes a `&mut Tx`: its database does not
    /// remember for longer that it ran.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Stored deliveries are due at `time`; at once if it has passed. In-process handlers run at once.
    pub fn at(self, time: SystemTime) -> Self {
        self.after(time::until(time))
    }
}

impl<E> IntoFuture for Emit<E> {
    type Output = Result<(), Error>;
    type IntoFuture = Emitting<E>;

    fn into_future(self) -> Emitting<E> {
        Emitting(Stage::New(self))
    }
}

impl<E> fmt::Debug for Emit<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emit").field("id", &self.id).field("delay", &self.delay).finish_non_exhaustive()
    }
}

/// The future of [`Emit`]. It is ready at its first poll, without an allocation, where all handlers are plain functions
/// in this process.
#[must_use = "the event is not emitted until this is awaited: add `.await`"]
pub struct Emitting<E>(Stage<E>);

enum Stage<E> {
    New(Emit<E>),
    Slow(Boxed<'static>),
    Done,
}

// The event is moved out before it is used; nothing is pinned in place.
impl<E> Unpin for Emitting<E> {}

impl<E> Future for Emitting<E> {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        if let Stage::Slow(slow) = &mut self.0 {
            return slow.as_mut().poll(cx);
        }
        let Stage::New(emit) = std::mem::replace(&mut self.0, Stage::Done) else {
            panic!("an emit was polled after it was ready");
        };
        match (emit.start)(emit) {
            Started::Done(done) => Poll::Ready(done),
            Started::Slow(slow) => {
                self.0 = Stage::Slow(slow);
                self.poll(cx)
            }
        }
    }
}

impl<E> fmt::Debug for Emitting<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Emitting")
    }
}

/// What an emit came to at its first poll.
pub(crate) enum Started {
    Done(Result<(), Error>),
    Slow(Boxed<'static>),
}

/// The future of an emit that waits.
pub(crate) type Boxed<'t> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 't>>;

/// Emits at once where that needs no waiting.
fn start<E: Event>(emit: Emit<E>) -> Started {
    let filled = E::slot().get_or_fill(fill::<E>);
    if emit.instance.is_none() && SCOPE.try_with(|_| ()).is_err() {
        match installed() {
            Some(instance) if filled.all_sync && !instance.is_stored(filled.event) => {
                dispatch::run_sync(filled, &emit.event, Some(&instance));
                return Started::Done(Ok(()));
            }
            Some(_) => {}
            None if filled.needs_instance => return Started::Done(Err(Error::not_started())),
            None if filled.all_sync => {
                dispatch::run_sync(filled, &emit.event, None);
                return Started::Done(Ok(()));
            }
            None => {
                return Started::Slow(Box::pin(async move {
                    dispatch::run(filled, &emit.event, None).await;
                    Ok(())
                }));
            }
        }
    }
    let Some((instance, cause)) = instance_for(emit.instance.as_ref()) else {
        return Started::Done(Err(Error::not_started()));
    };
    if is_stopped(&instance) {
        return Started::Done(Err(Error::not_started()));
    }
    Started::Slow(Box::pin(async move {
        if instance.is_stored(filled.event) {
            let id = emit.id.unwrap_or_else(EventId::new);
            let once = emit.id.is_some();
            let origin = origin(&instance, cause.as_ref(), id);
            let cause = Cause::new(id, &origin);
            store(&instance, &[(id, origin, &emit.event)], emit.delay, once).await?;
            run_as_cause(filled, &emit.event, &instance, cause).await;
            return Ok(());
        }
        dispatch::run_in_scope(filled, &emit.event, &instance).await;
        Ok(())
    }))
}

/// Runs the in-process handlers of a stored event: what they emit comes from it.
async fn run_as_cause<E: Event>(filled: &Filled<E>, event: &E, instance: &Arc<Instance>, cause: Cause) {
    let scope = Scope { instance: Arc::clone(instance), cause: Some(cause), in_tx: in_tx() };
    SCOPE.scope(scope, dispatch::run(filled, event, Some(instance))).await;
}

/// The instance that an emit uses, with the event whose handler emits.
pub(crate) fn instance_for(explicit: Option<&Arc<Instance>>) -> Option<(Arc<Instance>, Option<Cause>)> {
    let scope = scope();
    let cause = scope.as_ref().and_then(|scope| scope.cause.clone());
    let instance = explicit
        .cloned()
        .or_else(|| scope.map(|scope| scope.instance))
        .or_else(|| installed().map(|instance| Arc::clone(&instance)))?;
    Some((instance, cause))
}

/// Stores the background deliveries of `events` in one write.
async fn store<E: Event>(
    instance: &Instance,
    events: &[(EventId, Origin, &Guarded<E>)],
    delay: Duration,
    once: bool,
) -> Result<(), Error> {
    let Some(queue) = instance.queue() else {
        return Err(Error::new(
            ErrorKind::NotStored,
            format!(
                "a handler of `{}` in another process needs it stored, and this process has opened no queue yet; name it \
                 with `.queue(url)` or EVENTED_QUEUE",
                E::ID
            ),
        ));
    };
    refuse_inside_tx::<E>(instance)?;
    let payloads =
        events.iter().map(|(.., event)| payload::<E>(event).map(Payload::from)).collect::<Result<Vec<_>, _>>()?;
    for _ in 0..PLANS_MAX {
        let plans = instance.plans();
        let planned = planned_background::<E>(&plans);
        refuse_beyond_memory(instance, planned, delay)?;
        let deliveries = events.iter().zip(&payloads).flat_map(|((id, origin, _), payload)| {
            let fact =
                Fact { id: *id, origin: origin.clone(), version: E::VERSION, emitted_unix_ms: None, delay, payload };
            planned.iter().map(move |planned| planned.delivery(&fact))
        });
        let deliveries: Arc<[_]> = deliveries.collect();
        fits::<E>(&deliveries, queue.about.limits())?;
        let push = Push { once, ..Push::of(plans.queue_generation, deliveries) };
        let pushed = match queue.queue.push(push).await {
            // A handler was added somewhere since this process looked: it gets this event too.
            Ok(Pushed::CatalogueMoved) => instance.refresh().await.map(|()| Pushed::CatalogueMoved),
            pushed => pushed,
        };
        instance.health.emitted(pushed.as_ref().err());
        if pushed.map_err(Error::emitting)?.is_stored() {
            return Ok(());
        }
    }
    Err(Error::new(
        ErrorKind::NotStored,
        "the catalogue of handlers changes faster than it can be read; nothing was stored",
    ))
}

/// A push that its store would refuse is refused here, where it can be made smaller.
fn fits<E: Event>(deliveries: &[NewDelivery], limits: Limits) -> Result<(), Error> {
    let bytes: usize = deliveries.iter().map(|delivery| delivery.payload.len()).sum();
    if deliveries.len() <= limits.push_deliveries && bytes <= limits.push_bytes {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unstorable,
        format!(
            "this emit of `{}` makes {} deliveries of {bytes} bytes together, more than the queue takes at once, which is {} \
             deliveries and {} bytes; nothing was stored: emit fewer at a time",
            E::ID,
            deliveries.len(),
            limits.push_deliveries,
            limits.push_bytes
        ),
    ))
}

/// The same for what is relayed later: one event's deliveries are pushed together.
pub(crate) fn fits_when_relayed<E: Event>(instance: &Instance, payload: &[u8]) -> Result<(), Error> {
    let Some(limits) = instance.queue().map(|queue| queue.about.limits()) else { return Ok(()) };
    let handlers = planned_background::<E>(&instance.plans()).len();
    if handlers <= limits.push_deliveries && payload.len().saturating_mul(handlers) <= limits.push_bytes {
        return Ok(());
    }
    let text = format!(
        "`{}` is encoded in {} bytes for {handlers} handlers on `background`, more than the {} bytes that the queue takes at \
         once; store what is large elsewhere and put its key in the event",
        E::ID,
        payload.len(),
        limits.push_bytes
    );
    Err(Error::new(ErrorKind::Unstorable, text))
}

fn planned_background<E: Event>(plans: &Plans) -> &[Planned] {
    plans.of(E::ID).map_or(&[], |plan| &plan.background)
}

pub(crate) fn is_stopped(instance: &Instance) -> bool {
    instance.stopped.load(std::sync::atomic::Ordering::Relaxed)
}

/// Where an event comes from that is emitted now.
pub(crate) fn origin(instance: &Instance, cause: Option<&Cause>, id: EventId) -> Origin {
    // What cannot be traced is emitted all the same.
    let trace = instance.traces.as_ref().and_then(|traces| guarded(|| traces.current()).ok().flatten());
    Cause::origin(cause, id, trace.map(Arc::from))
}

/// Whether the running handler holds a write transaction on the outbox's database.
fn in_tx() -> bool {
    SCOPE.try_with(|scope| scope.in_tx).unwrap_or(false)
}

/// Where a transaction locks the whole database, as on SQLite, a transactional handler has that lock: storing to the same
/// file would wait for the handler, which waits for the emit.
fn refuse_inside_tx<E: Event>(instance: &Instance) -> Result<(), Error> {
    let waits = |(queue, outbox): (&Store, &Outbox)| {
        queue.about.identity() == outbox.about.identity() && outbox.about.limits().locks == Locks::Database
    };
    if in_tx() && instance.queue().zip(instance.outbox.as_ref()).is_some_and(waits) {
        return Err(Error::new(
            ErrorKind::NotStored,
            format!(
                "`emit({})` inside a handler with `&mut Tx` would wait for the handler's own transaction; declare the \
                 event `#[event(transactional)]` and write `emit_in(tx, ..)`",
                E::ID
            ),
        ));
    }
    Ok(())
}

/// A delayed delivery whose handler's database will not remember by then whether it ran would be a dead letter at its first
/// run. Beside its data a delivery is its own memory.
pub(crate) fn refuse_beyond_memory(instance: &Instance, planned: &[Planned], delay: Duration) -> Result<(), Error> {
    if delay < INBOX_RETENTION {
        return Ok(());
    }
    if instance.is_one_store() {
        return Ok(());
    }
    let forgets = |planned: &&Planned| {
        let linked = registry().handlers.iter().find(|handler| handler.id == planned.handler);
        linked.is_some_and(Linked::takes_tx)
    };
    let Some(planned) = planned.iter().find(forgets) else { return Ok(()) };
    let text = format!(
        "the delay is longer than {INBOX_RETENTION:?}, for which the database of handler `{}` with `&mut Tx` remembers what \
         ran in it; emit the event nearer to its time, or take the transaction out of the handler",
        planned.handler
    );
    Err(Error::new(ErrorKind::Unstorable, text))
}

/// Encodes an event, within the limit.
pub(crate) fn payload<E: Event>(event: &E) -> Result<Vec<u8>, Error> {
    let unstorable = |why: String| Error::new(ErrorKind::Unstorable, why);
    let encode = E::ENCODE.ok_or_else(|| {
        unstorable(format!(
            "a handler of `{}` in another process needs it stored, but it is not `Serialize` and `Deserialize`; add \
             `#[derive(serde::Serialize, serde::Deserialize)]`",
            E::ID
        ))
    })?;
    let encoded = guarded(|| encode(event).map_err(refused::<E>));
    let payload = encoded.unwrap_or_else(|panic| Err(refused::<E>(panic.into())))?;
    if payload.len() > PAYLOAD_MAX {
        return Err(unstorable(format!(
            "`{}` is encoded in {} bytes, more than the {PAYLOAD_MAX} that are stored; store what is large elsewhere and \
             put its key in the event",
            E::ID,
            payload.len()
        )));
    }
    Ok(payload)
}

/// Why an event could not be encoded, and where in it.
fn refused<E: Event>(error: BoxError) -> Error {
    match error.downcast::<Refused>() {
        Ok(refused) => {
            let Refused { at, why, source } = *refused;
            let error = Error::new(ErrorKind::Unstorable, format!("`{}{at}` {why}", E::ID));
            match source {
                Some(source) => error.because(source),
                None => error,
            }
        }
        Err(error) => Error::new(ErrorKind::Unstorable, format!("`{}` could not be encoded", E::ID)).because(error),
    }
}

/// Many emits of one type that happen when this is awaited. Made by [`emit_all`].
#[must_use = "the events are not emitted until this is awaited: add `.await`"]
pub struct EmitAll<E> {
    events: Vec<Guarded<E>>,
    instance: Option<Arc<Instance>>,
    /// `store_and_run_all::<E>`, as in [`Emit`].
    emit: fn(Self) -> Boxed<'static>,
}

impl<E> EmitAll<E> {
    /// Uses this instance and not the one that a free emit would find.
    pub(crate) fn through(mut self, instance: &Arc<Instance>) -> Self {
        self.instance = Some(Arc::clone(instance));
        self
    }
}

impl<E> IntoFuture for EmitAll<E> {
    type Output = Result<(), Error>;
    type IntoFuture = Boxed<'static>;

    fn into_future(self) -> Self::IntoFuture {
        (self.emit)(self)
    }
}

fn store_and_run_all<E: Event>(emit: EmitAll<E>) -> Boxed<'static> {
    let EmitAll { events, instance, .. } = emit;
    Box::pin(async move {
        let filled = E::slot().get_or_fill(fill::<E>);
        let Some((instance, cause)) = instance_for(instance.as_ref()) else {
            if filled.needs_instance {
                return Err(Error::not_started());
            }
            for event in &events {
                dispatch::run(filled, event, None).await;
            }
            return Ok(());
        };
        if is_stopped(&instance) {
            return Err(Error::not_started());
        }
        if events.len() > EVENTS_MAX {
            return Err(Error::new(
                ErrorKind::Unstorable,
                format!(
                    "{} events in one `emit_all`, more than the {EVENTS_MAX} of one write; emit them in parts",
                    events.len()
                ),
            ));
        }
        if instance.is_stored(filled.event) {
            let with_origin = |event| {
                let id = EventId::new();
                (id, origin(&instance, cause.as_ref(), id), event)
            };
            let events: Vec<_> = events.iter().map(with_origin).collect();
            store(&instance, &events, Duration::ZERO, false).await?;
            for (id, origin, event) in &events {
                run_as_cause(filled, event, &instance, Cause::new(*id, origin)).await;
            }
            return Ok(());
        }
        for event in &events {
            dispatch::run_in_scope(filled, event, &instance).await;
        }
        Ok(())
    })
}

impl<E> fmt::Debug for EmitAll<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmitAll").field("events", &self.events.len()).finish_non_exhaustive()
    }
}
