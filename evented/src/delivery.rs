//! One event for one handler, as the handler sees it.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use crate::{
    flag::Flag,
    id::{DeliveryId, EventId},
    origin::Origin,
    time::{self, Instant},
};

/// What a stored handler may know of its run. Cheap to clone.
///
/// Take it as an argument of a `background` or `outbox` handler; in a unit test, make one with [`Delivery::test`].
#[derive(Clone)]
pub struct Delivery(Arc<Inner>);

struct Inner {
    id: DeliveryId,
    event_id: EventId,
    origin: Origin,
    attempt: u32,
    attempts_max: u32,
    emitted_unix_ms: i64,
    timeout: Duration,
    /// Set when the handler begins.
    deadline: OnceLock<Instant>,
    begun: Flag,
    cancelled: AtomicBool,
}

/// What a delivery is made of; the worker's side of [`Delivery`].
pub(crate) struct Starting {
    pub id: DeliveryId,
    pub event_id: EventId,
    pub origin: Origin,
    /// Counted from 1.
    pub attempt: u32,
    pub attempts_max: u32,
    pub emitted_unix_ms: i64,
    pub timeout: Duration,
}

impl Delivery {
    /// The delivery of an attempt, whose time begins when its handler does: a transaction or a thread may be waited for until then.
    pub(crate) fn new(starting: Starting) -> Self {
        Self(Arc::new(Inner {
            id: starting.id,
            event_id: starting.event_id,
            origin: starting.origin,
            attempt: starting.attempt,
            attempts_max: starting.attempts_max,
            emitted_unix_ms: starting.emitted_unix_ms,
            timeout: starting.timeout,
            deadline: OnceLock::new(),
            begun: Flag::default(),
            cancelled: AtomicBool::new(false),
        }))
    }

    /// The handler begins.
    pub(crate) fn begin(&self) {
        let _begun_before = self.0.deadline.set(time::after(self.0.timeout));
        self.0.begun.raise();
    }

    /// Waits until the handler's time is up; for ever where it does not begin.
    pub(crate) async fn time_is_up(&self) {
        self.0.begun.raised().await;
        time::sleep(self.time_left()).await;
    }

    /// Tells what still runs of it that the attempt is over.
    pub(crate) fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// A first attempt of 21 with five minutes left, for a test that calls a handler as a function.
    #[must_use]
    pub fn test() -> Self {
        let event_id = EventId::new();
        let delivery = Self::new(Starting {
            id: DeliveryId::derive(event_id, "test"),
            event_id,
            origin: Origin::of(event_id),
            attempt: 1,
            attempts_max: 21,
            emitted_unix_ms: time::unix_ms(),
            timeout: Duration::from_mins(5),
        });
        delivery.begin();
        delivery
    }

    /// The same in every attempt: give it to a service that takes an idempotency key.
    #[must_use]
    pub fn id(&self) -> DeliveryId {
        self.0.id
    }

    /// The event's id, shared by the deliveries of all its handlers.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        self.0.event_id
    }

    /// The id of the event that began the chain: what a handler on a stored route emits carries its own event's correlation
    /// on.
    #[must_use]
    pub fn correlation(&self) -> EventId {
        self.0.origin.correlation
    }

    /// The id of the event whose handler emitted this one; `None` where no handler did.
    #[must_use]
    pub fn causation(&self) -> Option<EventId> {
        self.0.origin.causation
    }

    /// The trace in which the event was emitted, as a W3C `traceparent`: see [`Traces`](crate::Traces).
    #[must_use]
    pub fn trace(&self) -> Option<&str> {
        self.0.origin.trace.as_deref()
    }

    /// Which attempt this is, from 1. A lost lease and a shutdown cost none, so a run may repeat a number.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// How many attempts are left after this one; 0: a failure of this one goes to the dead letters.
    #[must_use]
    pub fn attempts_left(&self) -> u32 {
        self.0.attempts_max.saturating_sub(self.0.attempt)
    }

    /// How long this attempt has until its timeout.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.when().saturating_duration_since(time::now())
    }

    /// The end of this attempt's time, on the monotonic clock.
    #[must_use]
    pub fn deadline(&self) -> std::time::Instant {
        self.when().into_std()
    }

    /// The end of its time, which has begun: who has a delivery is its handler.
    fn when(&self) -> Instant {
        *self.0.deadline.get_or_init(|| time::after(self.0.timeout))
    }

    /// When the event was emitted, by the store's clock, in whole milliseconds.
    #[must_use]
    pub fn emitted_at(&self) -> SystemTime {
        time::from_unix_ms(self.0.emitted_unix_ms)
    }

    /// True once the attempt is over before its handler is: its time is up, its lease was lost, or the worker stops.
    /// An `async` handler is dropped then; a blocking one should look here now and then, and return.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("id", &self.0.id)
            .field("attempt", &self.0.attempt)
            .field("attempts_max", &self.0.attempts_max)
            .finish_non_exhaustive()
    }
}
