//! In-process handlers: called inside `emit`, in the order of their ids, one after the other.
//!
//! A failure or a panic of one is logged and counted; the others run, and the emitter does not notice.

use std::sync::{Arc, atomic::Ordering};

use crate::{
    context::{Context, States},
    error::{BoxError, HandlerResult, tamed},
    event::Event,
    instance::{Instance, SCOPE, Scope, catch, catch_sync, installed, scope},
    registry::registry,
    slot::{Entry, Filled, InProcessCall},
};

/// The state of a process that is not started.
static NO_STATES: States = States::none();

/// Calls the handlers of an event that has no async ones. Allocates nothing, takes no lock, hashes nothing.
pub(crate) fn run_sync<E: Event>(filled: &Filled<E>, event: &E, instance: Option<&Instance>) {
    for entry in active(filled, instance) {
        if let InProcessCall::Plain(call) = entry.call {
            let ended = catch_sync(|| call(event, &mut context(instance)));
            note(ended, entry.handler, instance);
        }
    }
    note_emitted(filled, instance);
}

/// Calls the handlers, waiting for each async one before the next.
pub(crate) async fn run<E: Event>(filled: &Filled<E>, event: &E, instance: Option<&Instance>) {
    for entry in active(filled, instance) {
        let ended = match entry.call {
            InProcessCall::Plain(call) => catch_sync(|| call(event, &mut context(instance))),
            InProcessCall::Async(call) => catch(|| call(event, &mut context(instance))).await,
        };
        note(ended, entry.handler, instance);
    }
    note_emitted(filled, instance);
}

/// Runs handlers for an instance that a free `emit` inside them would not find by itself.
pub(crate) async fn run_in_scope<E: Event>(filled: &Filled<E>, event: &E, instance: &Arc<Instance>) {
    match scope_for(instance) {
        Some(scope) => SCOPE.scope(scope, run(filled, event, Some(instance))).await,
        None => run(filled, event, Some(instance)).await,
    }
}

/// `None` where a free `emit` finds `instance` already.
pub(crate) fn scope_for(instance: &Arc<Instance>) -> Option<Scope> {
    let found = match scope() {
        Some(scope) => Arc::ptr_eq(&scope.instance, instance),
        None => installed().is_some_and(|installed| Arc::ptr_eq(&installed, instance)),
    };
    (!found).then(|| Scope { instance: Arc::clone(instance), cause: None, in_tx: false })
}

fn active<'a, E>(filled: &'a Filled<E>, instance: Option<&'a Instance>) -> impl Iterator<Item = &'a Entry<E>> {
    filled.in_process.iter().filter(move |entry| instance.is_none_or(|instance| instance.active[entry.handler]))
}

fn context(instance: Option<&Instance>) -> Context<'_> {
    Context { states: instance.map_or(&NO_STATES, |instance| &instance.states), delivery: None, tx: None }
}

fn note(ended: HandlerResult, handler: usize, instance: Option<&Instance>) {
    if let Err(error) = ended {
        note_failure(error, handler, instance);
    }
}

#[cold]
fn note_failure(error: BoxError, handler: usize, instance: Option<&Instance>) {
    if let Some(instance) = instance {
        instance.failures[handler].fetch_add(1, Ordering::Relaxed);
    }
    let (handler, error) = (&registry().handlers[handler], tamed(error));
    tracing::error!(handler = %handler.id, place = %handler.place, %error, "an in-process handler failed");
}

fn note_emitted<E>(filled: &Filled<E>, instance: Option<&Instance>) {
    if let Some(instance) = instance {
        instance.events[filled.event].emitted.fetch_add(1, Ordering::Relaxed);
    }
}
