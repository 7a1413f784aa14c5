//! The place of an event type's in-process handlers: one static per event, filled once, read without hash or lock.

use std::{fmt, pin::Pin, sync::OnceLock};

use crate::{context::Context, error::HandlerResult};

/// A handler's future, boxed once.
pub type Running<'a> = Pin<Box<dyn Future<Output = HandlerResult> + Send + 'a>>;

/// How an in-process handler of the event `E` is called. The registry holds it as `&dyn Any`; the event's slot finds its type
/// again.
#[derive(Debug)]
pub enum InProcessCall<E> {
    /// A plain `fn`.
    Plain(for<'a> fn(&'a E, &mut Context<'a>) -> HandlerResult),
    /// An `async fn`.
    Async(for<'a> fn(&'a E, &mut Context<'a>) -> Running<'a>),
}

/// One event type's in-process handlers: a `static` of the type's own, filled at the first emit.
pub struct Slot<E>(OnceLock<Filled<E>>);

/// What a slot holds: link-time truth only. State and configuration come from the instance.
pub(crate) struct Filled<E> {
    /// The event's place in the registry.
    pub event: usize,
    /// In the order of their ids.
    pub in_process: Box<[Entry<E>]>,
    /// In the order of their ids.
    pub in_transaction: Box<[Entry<E>]>,
    /// None of `in_process` is async.
    pub all_sync: bool,
    /// Some handler of the event takes an argument that only an instance has, or is stored.
    pub needs_instance: bool,
}

pub(crate) struct Entry<E> {
    /// The handler's place in the registry.
    pub handler: usize,
    pub call: InProcessCall<E>,
}

impl<E> Slot<E> {
    /// An empty slot.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a slot is a static: `Default` is not const")]
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    pub(crate) fn get_or_fill(&self, fill: impl FnOnce() -> Filled<E>) -> &Filled<E> {
        self.0.get_or_init(fill)
    }
}

impl<E> fmt::Debug for Slot<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("filled", &self.0.get().is_some()).finish()
    }
}

impl<E> Clone for InProcessCall<E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for InProcessCall<E> {}
