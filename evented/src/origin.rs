//! Where an event comes from: the chain of events that it is part of, and the trace.

use std::{fmt, sync::Arc};

use tracing::Span;

use crate::id::EventId;

/// What an event's deliveries carry on of its emitter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The event that began the chain; the event itself, where it did.
    pub correlation: EventId,
    /// The event whose handler emitted this one; `None` where no handler did.
    pub causation: Option<EventId>,
    /// The trace in which it was emitted, as a `traceparent`: <https://www.w3.org/TR/trace-context/#traceparent-header>.
    pub trace: Option<Arc<str>>,
}

/// The longest `traceparent` that is carried on, in bytes.
const TRACE_MAX: usize = 256;

impl Origin {
    /// Of an event that nothing led to.
    #[must_use]
    pub fn of(event: EventId) -> Self {
        Self { correlation: event, causation: None, trace: None }
    }

    /// As stores keep it beside the event's id; `None`, the usual case, where nothing led to the event.
    ///
    /// The correlation's 16 bytes, then, where there is more, the causation's (zero for none), then the trace.
    #[must_use]
    pub fn to_bytes(&self, event: EventId) -> Option<Vec<u8>> {
        if *self == Self::of(event) {
            return None;
        }
        let mut bytes = self.correlation.to_bytes().to_vec();
        if self.causation.is_some() || self.trace.is_some() {
            bytes.extend(self.causation.map_or([0; 16], EventId::to_bytes));
            bytes.extend(self.trace.iter().flat_map(|trace| trace.bytes()));
        }
        Some(bytes)
    }

    /// The origin of these bytes. What is cut short is taken for what is left of it: it is no reason not to deliver.
    #[must_use]
    pub fn from_bytes(event: EventId, bytes: Option<&[u8]>) -> Self {
        let mut rest = bytes.unwrap_or_default();
        let mut next = || {
            let (id, after) = rest.split_first_chunk::<16>()?;
            rest = after;
            (*id != [0; 16]).then(|| EventId::from_bytes(*id))
        };
        let (correlation, causation) = (next(), next());
        let trace = std::str::from_utf8(rest).ok().filter(|trace| !trace.is_empty()).map(Arc::from);
        Self { correlation: correlation.unwrap_or(event), causation, trace }
    }
}

/// The event whose handler runs: what it emits comes from there.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    pub event_id: EventId,
    pub correlation: EventId,
    pub trace: Option<Arc<str>>,
}

impl Cause {
    /// Of what an event's handlers emit.
    pub(crate) fn new(event_id: EventId, origin: &Origin) -> Self {
        Self { event_id, correlation: origin.correlation, trace: origin.trace.clone() }
    }

    /// The origin of an event that is emitted now: by a handler, or by the application. `trace` is the one that runs now.
    pub(crate) fn origin(cause: Option<&Self>, event: EventId, trace: Option<Arc<str>>) -> Origin {
        let trace = trace.filter(|trace| trace.len() <= TRACE_MAX);
        match cause {
            Some(cause) => Origin {
                correlation: cause.correlation,
                causation: Some(cause.event_id),
                trace: trace.or_else(|| cause.trace.clone()),
            },
            None => Origin { trace, ..Origin::of(event) },
        }
    }
}

/// How traces go on from an emit to its handlers, in other processes too: [`Run::traces`](crate::Run::traces).
///
/// evented runs each attempt of a stored handler in a span of `tracing` and carries the `traceparent` of the emitter; which
/// library makes traces of spans is yours to say. With `tracing-opentelemetry`:
///
/// ```text
/// struct OpenTelemetry;
///
/// impl evented::Traces for OpenTelemetry {
///     fn current(&self) -> Option<String> {
///         let mut headers = HashMap::new();
///         TraceContextPropagator::new().inject_context(&Span::current().context(), &mut headers);
///         headers.remove("traceparent")
///     }
///
///     fn link(&self, span: &Span, traceparent: &str) {
///         let headers = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
///         let emitter = TraceContextPropagator::new().extract(&headers);
///         span.add_link(emitter.span().span_context().clone());
///     }
/// }
/// ```
pub trait Traces: Send + Sync + 'static {
    /// The `traceparent` of what runs now, for an event that is emitted; `None` where nothing is traced.
    fn current(&self) -> Option<String>;

    /// Links the span of an attempt, which was just made, to the trace of the event's emitter.
    fn link(&self, span: &Span, traceparent: &str);
}

impl fmt::Debug for dyn Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Traces")
    }
}
