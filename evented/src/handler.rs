//! What makes a function a handler: its arguments and its output.

use std::any::Any;

use crate::{
    context::{Context, Needs, State},
    delivery::Delivery,
    error::{BoxError, Error, HandlerResult},
    slot::Running,
};

/// An argument of a handler after the event. `R` is the handler's route: [`InProcess`], [`InTransaction`],
/// [`Background`], [`Outbox`], or [`Blocking`] for a plain `fn` on a stored route.
///
/// Implement it for a type of your own to take it as an argument:
///
/// ```
/// use evented::{Context, Error, HandlerArg, Needs, State};
///
/// struct Tenants(Vec<String>);
/// struct TenantCount(usize);
///
/// impl<'a, R> HandlerArg<'a, R> for TenantCount {
///     fn take(context: &mut Context<'a>) -> Result<Self, Error> {
///         Ok(Self(context.state::<Tenants>()?.0.len()))
///     }
///     fn needs(needs: &mut Needs) {
///         needs.state::<Tenants>();
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of this handler (route: `{R}`)",
    label = "not available here",
    note = "a handler takes `State<T>` on every route, `Delivery` on `background` and `outbox`, and `&mut Tx<Db>` in an `async fn` on `background`, `outbox` and `in_process(in_transaction)`",
    note = "to take a shared value of your own, write `State<..>` and give the value to `run()` with `.state(value)`",
    note = "or implement `evented::HandlerArg` for a type of your own"
)]
pub trait HandlerArg<'a, R>: Sized {
    /// Takes the argument, without waiting. An error fails the attempt.
    ///
    /// # Errors
    /// When the context does not have it.
    fn take(context: &mut Context<'a>) -> Result<Self, Error>;

    /// Says what [`take`](Self::take) will look for, so that `run()` finds what is missing before the first event.
    fn needs(needs: &mut Needs);
}

impl<'a, R, T: Send + Sync + 'static> HandlerArg<'a, R> for State<T> {
    fn take(context: &mut Context<'a>) -> Result<Self, Error> {
        context.state()
    }
    fn needs(needs: &mut Needs) {
        needs.state::<T>();
    }
}

macro_rules! delivery_on {
    ($($route:ident)*) => {$(
        #[diagnostic::do_not_recommend]
        impl<'a> HandlerArg<'a, $route> for Delivery {
            fn take(context: &mut Context<'a>) -> Result<Self, Error> {
                Ok(context.delivery.clone().expect("the worker sets the delivery of every stored handler"))
            }
            fn needs(_: &mut Needs) {}
        }
    )*};
}
delivery_on!(Background Outbox Blocking);

/// The route of `#[handler(Event)]`.
#[derive(Debug)]
pub enum InProcess {}
/// The route of `#[handler(Event, in_process(in_transaction))]`.
#[derive(Debug)]
pub enum InTransaction {}
/// The route of an `async fn` with `#[handler(Event, background)]`.
#[derive(Debug)]
pub enum Background {}
/// The route of an `async fn` with `#[handler(Event, outbox)]`.
#[derive(Debug)]
pub enum Outbox {}
/// The route of a plain `fn` on `background` or `outbox`: it runs on the blocking pool.
#[derive(Debug)]
pub enum Blocking {}

/// Where a route's event comes from: a borrow of the emitter's, or a decoded one that may be taken.
#[doc(hidden)]
pub trait Source {
    type Of<'a, E: 'a>;
    fn borrow<'a, E: 'a>(source: Self::Of<'a, E>) -> &'a E;
}

macro_rules! borrowed_source {
    ($($route:ident)*) => {$(
        impl Source for $route {
            type Of<'a, E: 'a> = &'a E;
            fn borrow<'a, E: 'a>(source: &'a E) -> &'a E {
                source
            }
        }
        impl<'a, E: 'a> EventArg<'a, E, $route> for E
        where
            $route: Copies<E>,
        {
            fn from_source(source: &'a E) -> Self {
                <$route>::copy(source)
            }
        }
        #[diagnostic::do_not_recommend]
        impl<E: Clone> Copies<E> for $route {
            fn copy(event: &E) -> E {
                event.clone()
            }
        }
    )*};
}
borrowed_source!(InProcess InTransaction);

/// Whether an in-process handler may take its event by value. It is asked of the route, not of the event: rustc prefers
/// an outer trait's message to an inner one's where both are asked of one type.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "an in-process handler takes `{E}` by value, but `{E}` is not `Clone`",
    label = "each handler would need its own copy",
    note = "take the event by reference, `&{E}`, or add `#[derive(Clone)]` to `{E}`"
)]
pub trait Copies<E> {
    fn copy(event: &E) -> E;
}

macro_rules! owned_source {
    ($($route:ident)*) => {$(
        impl Source for $route {
            type Of<'a, E: 'a> = Received<'a, E>;
            fn borrow<'a, E: 'a>(source: Received<'a, E>) -> &'a E {
                source.borrow()
            }
        }
        #[diagnostic::do_not_recommend]
        impl<'a, E: 'a> EventArg<'a, E, $route> for E {
            fn from_source(source: Received<'a, E>) -> Self {
                source.take()
            }
        }
    )*};
}
owned_source!(Background Outbox Blocking);

/// The first argument of a handler.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "this handler's event is `{E}`, but its first argument is `{Self}`",
    label = "expected `&{E}` or `{E}`",
    note = "the first argument of a handler is the event; `State<T>` and the others come after it"
)]
pub trait EventArg<'a, E: 'a, R: Source>: Sized {
    fn from_source(source: R::Of<'a, E>) -> Self;
}

#[diagnostic::do_not_recommend]
impl<'a, E: 'a, R: Source> EventArg<'a, E, R> for &'a E {
    fn from_source(source: R::Of<'a, E>) -> Self {
        R::borrow(source)
    }
}

/// What a handler returns.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    label = "expected `()` or `Result<(), E>`",
    note = "return `()` when the handler cannot fail, or `Result<(), E>` where `E` implements `std::error::Error`, is an `anyhow::Error`, a `String`, or a `Box<dyn Error + Send + Sync>`",
    note = "to await in the handler, write `async fn`; to say that something else happened, call `emit`"
)]
pub trait HandlerOutput {
    fn into_result(self) -> HandlerResult;
}

#[diagnostic::do_not_recommend]
impl HandlerOutput for () {
    fn into_result(self) -> HandlerResult {
        Ok(())
    }
}

#[diagnostic::do_not_recommend]
impl<E: Into<BoxError>> HandlerOutput for Result<(), E> {
    fn into_result(self) -> HandlerResult {
        self.map_err(Into::into)
    }
}

/// The user's future, with its output brought to one shape. Takes the future itself, so that rustc's error about a
/// future that is not `Send` names the user's function.
#[doc(hidden)]
pub fn run_async<'a, F: Future + Send + 'a>(future: F, into_result: fn(F::Output) -> HandlerResult) -> Running<'a> {
    Box::pin(async move { into_result(future.await) })
}

/// The answer of a handler whose arguments could not be taken.
#[doc(hidden)]
#[must_use]
pub fn refuse<'a>(error: Error) -> Running<'a> {
    Box::pin(std::future::ready(Err(error.into())))
}

/// The answer of a plain `fn` whose arguments could not be taken.
#[doc(hidden)]
pub fn refuse_sync(error: Error) -> HandlerResult {
    Err(error.into())
}

/// The event of a stored handler, fresh from its payload: to be taken, or to be looked at while the handler runs.
#[derive(Debug)]
pub struct Received<'a, E>(&'a mut Option<E>);

impl<'a, E: 'static> Received<'a, E> {
    pub(crate) fn of(event: &'a mut (dyn Any + Send)) -> Self {
        Self(event.downcast_mut().expect("a handler's event is decoded as its own type"))
    }
}

#[expect(clippy::missing_panics_doc, reason = "there is one of it for each run, and both functions consume it")]
impl<'a, E> Received<'a, E> {
    /// The event itself.
    #[must_use]
    pub fn take(self) -> E {
        self.0.take().expect("a received event is taken once")
    }

    /// The event, for as long as the handler runs.
    #[must_use]
    pub fn borrow(self) -> &'a E {
        self.0.as_ref().expect("a received event is taken once")
    }
}

/// Holds what `#[handler]` writes beside the function. Where that is a method, rustc refuses the struct and shows nothing of
/// ours but this name.
#[doc(hidden)]
#[macro_export]
macro_rules! a_handler_is_a_free_function__move_it_out_of_the_impl {
    ($(#[$attribute:meta])* $holder:ident $registration:block) => {
        $(#[$attribute])*
        #[doc(hidden)]
        #[allow(non_camel_case_types)]
        struct $holder([(); $registration]);
    };
}
