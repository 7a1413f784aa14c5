//! Where a handler's arguments come from: the application's state, the delivery, the transaction.

use std::{
    any::{Any, TypeId, type_name},
    fmt,
    ops::Deref,
    sync::Arc,
};

use crate::{
    delivery::Delivery,
    error::{Error, ErrorKind},
    guard::let_go,
};

/// A value that the application gave to [`run().state(..)`](crate::Run::state), in a handler's arguments.
///
/// It is shared, not copied: `T` need not be `Clone`. In a unit test, make one with [`State::new`].
pub struct State<T: ?Sized>(Arc<T>);

impl<T> State<T> {
    /// Wraps a value, for a test that calls a handler as a function.
    pub fn new(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T: ?Sized> Deref for State<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> Clone for State<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for State<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The values given to `run().state(..)`: few, so a walk over them beats a hash.
#[derive(Default)]
pub(crate) struct States(Vec<(TypeId, Arc<dyn Any + Send + Sync>)>);

/// Whoever lets the last of an instance go, be it a task of ours, does not go down with a state.
impl Drop for States {
    fn drop(&mut self) {
        self.0.drain(..).for_each(let_go);
    }
}

impl States {
    pub(crate) const fn none() -> Self {
        Self(Vec::new())
    }

    /// False when a value of this type is there already.
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, value: T) -> bool {
        let absent = !self.has(TypeId::of::<T>());
        if absent {
            self.0.push((TypeId::of::<T>(), Arc::new(value)));
        }
        absent
    }

    pub(crate) fn has(&self, wanted: TypeId) -> bool {
        self.0.iter().any(|(id, _)| *id == wanted)
    }

    fn get<T: Send + Sync + 'static>(&self) -> Option<State<T>> {
        let (_, value) = self.0.iter().find(|(id, _)| *id == TypeId::of::<T>())?;
        Arc::clone(value).downcast().ok().map(State)
    }
}

/// What a handler's arguments are taken from.
pub struct Context<'a> {
    pub(crate) states: &'a States,
    pub(crate) delivery: Option<Delivery>,
    pub(crate) tx: Option<&'a mut (dyn Any + Send)>,
}

impl<'a> Context<'a> {
    /// The value of type `T` given to `run().state(..)`.
    ///
    /// # Errors
    /// When there is none. `run()` refuses to start in that case if the argument's [`needs`](crate::HandlerArg::needs) say so.
    pub fn state<T: Send + Sync + 'static>(&self) -> Result<State<T>, Error> {
        self.states.get().ok_or_else(|| {
            let name = type_name::<T>();
            Error::new(ErrorKind::Boot, format!("no `State<{name}>`; give `run()` one with `.state(..)`"))
        })
    }

    /// The delivery that is run; `None` in an in-process handler.
    #[must_use]
    pub fn delivery(&self) -> Option<&Delivery> {
        self.delivery.as_ref()
    }

    /// The transaction that the handler runs in, once: a transaction has one user.
    pub(crate) fn take_tx<T: 'static>(&mut self) -> Result<&'a mut T, Error> {
        self.tx.take().and_then(|tx| tx.downcast_mut()).ok_or_else(|| {
            Error::new(
                ErrorKind::NoOutbox,
                "the handler's transaction is of another database, or was taken by another argument",
            )
        })
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("delivery", &self.delivery).finish_non_exhaustive()
    }
}

/// What an argument must find at startup, for [`run()`](crate::run) to check.
#[derive(Debug, Default)]
pub struct Needs {
    pub(crate) states: Vec<(TypeId, &'static str)>,
    pub(crate) databases: Vec<(TypeId, &'static str)>,
}

impl Needs {
    /// The argument takes a `State<T>`.
    pub fn state<T: 'static>(&mut self) {
        self.states.push((TypeId::of::<T>(), type_name::<T>()));
    }

    pub(crate) fn database<Db: 'static>(&mut self) {
        // `Sqlite`, as the handler writes it, and not the path inside sqlx.
        let name = type_name::<Db>().rsplit("::").next().unwrap_or_default();
        self.databases.push((TypeId::of::<Db>(), name));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.states.is_empty() && self.databases.is_empty()
    }
}
