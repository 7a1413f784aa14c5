//! An event and a handler as they are registered: constants that an attribute or a hand writes.

use std::{
    any::{Any, TypeId},
    fmt,
};

use crate::{
    context::{Context, Needs},
    error::HandlerResult,
    event::{Decode, Event, HandledByOutbox, HandledInProcess, HandledInTransaction, Place, Stored},
    handler::Received,
    retry::Policy,
    slot::{InProcessCall, Running},
    terms::{Priority, Terms},
};

/// An event as it is registered: `#[event]` writes one beside the type, and [`register!`](crate::register) takes one.
#[derive(Debug)]
pub struct EventDef {
    pub(crate) id: &'static str,
    pub(crate) aliases: &'static [&'static str],
    pub(crate) version: u32,
    /// Whether its type can be stored.
    pub(crate) storable: bool,
    pub(crate) place: Place,
    pub(crate) type_id: fn() -> TypeId,
}

impl EventDef {
    /// The registration of the event `E`.
    ///
    /// # Panics
    /// When the event's id or version cannot be: in a constant, that stops the build.
    #[must_use]
    pub const fn of<E: Event>() -> Self {
        assert_id(E::ID);
        assert!(E::VERSION > 0, "versions of an event count from 1");
        assert!(E::EARLIER.len() < E::VERSION as usize, "an event has fewer earlier versions than its own says");
        Self {
            id: E::ID,
            aliases: &[],
            version: E::VERSION,
            storable: E::ENCODE.is_some(),
            place: Place::NONE,
            type_id: TypeId::of::<E>,
        }
    }

    /// Earlier ids of the event: what was stored under them is still delivered. `#[event(aliases(..))]`.
    #[must_use]
    pub const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// Where the event is declared; [`register!`](crate::register) says it.
    #[must_use]
    pub const fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }
}

/// Stops the build where an id could not be stored.
pub(crate) const fn assert_id(id: &str) {
    let bytes = id.as_bytes();
    assert!(!bytes.is_empty() && bytes.len() <= 100, "an id has 1 to 100 characters");
    let mut at = 0;
    while at < bytes.len() {
        let plain = matches!(bytes[at], b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'_' | b'.' | b'-');
        assert!(plain, "an id has ASCII letters, digits, `_`, `.` and `-`");
        at += 1;
    }
}

/// A handler as it is registered: `#[handler]` writes one beside the function, and [`register!`](crate::register) takes one.
///
/// A wrong name or option stops the build, where the registration is evaluated.
#[derive(Debug, Clone, Copy)]
pub struct HandlerDef {
    /// `None`: `<event id>/<name>`.
    #[doc(hidden)]
    pub id: Option<&'static str>,
    #[doc(hidden)]
    pub name: &'static str,
    #[doc(hidden)]
    pub aliases: &'static [&'static str],
    /// The event's id.
    #[doc(hidden)]
    pub event: &'static str,
    #[doc(hidden)]
    pub event_type: fn() -> TypeId,
    /// The highest version of the event's payloads that it reads.
    #[doc(hidden)]
    pub version: u32,
    #[doc(hidden)]
    pub needs: &'static [fn(&mut Needs)],
    #[doc(hidden)]
    pub call: Call,
    #[doc(hidden)]
    pub place: Place,
}

/// What `#[handler]` registers. It has checked what it writes, and a compiler checks a function in less time than it evaluates
/// a constant.
#[doc(hidden)]
#[derive(Debug)]
pub struct MakeHandler(pub fn() -> HandlerDef);

/// How a handler is called, by route. The unit in each is where `#[handler]` asks whether the event fits the route.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub enum Call {
    /// A `&'static InProcessCall<E>`.
    InProcess(&'static (dyn Any + Send + Sync), ()),
    /// A `&'static InProcessCall<E>`.
    InTransaction(&'static (dyn Any + Send + Sync), ()),
    Background(Stores, ()),
    Outbox(Stores, ()),
}

/// What a stored route knows of a handler.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Stores {
    pub queue: &'static str,
    pub policy: Policy,
    pub terms: Terms,
    pub decode: Decode,
    pub call: &'static dyn ErasedCall,
}

impl HandlerDef {
    /// A handler that runs inside `emit`: `#[handler(Event)]`. Its id is `<event id>/<name>`, unless [`id`](Self::id) says
    /// otherwise.
    #[must_use]
    pub const fn in_process<E: Event<Delivery: HandledInProcess<E>>>(
        name: &'static str,
        call: &'static InProcessCall<E>,
    ) -> Self {
        Self::new::<E>(name, Call::InProcess(call, ()))
    }

    /// A handler that runs inside `emit_in`: `#[handler(Event, in_process(in_transaction))]`.
    #[must_use]
    pub const fn in_transaction<E: Event<Delivery: HandledInTransaction<E>>>(
        name: &'static str,
        call: &'static InProcessCall<E>,
    ) -> Self {
        Self::new::<E>(name, Call::InTransaction(call, ()))
    }

    /// A handler that a worker runs: `#[handler(Event, background)]`.
    #[must_use]
    pub const fn background<E: Event<Delivery: Stored<E>>>(name: &'static str, call: &'static StoredCall<E>) -> Self {
        Self::new::<E>(name, Call::Background(Stores::new(call, E::Delivery::DECODE), ()))
    }

    /// A handler that a worker runs, in the outbox's own database: `#[handler(Event, outbox)]`.
    #[must_use]
    pub const fn outbox<E: Event<Delivery: Stored<E> + HandledByOutbox<E>>>(
        name: &'static str,
        call: &'static StoredCall<E>,
    ) -> Self {
        Self::new::<E>(name, Call::Outbox(Stores::new(call, E::Delivery::DECODE), ()))
    }

    /// The handler's id: `id = ".."`.
    #[must_use]
    pub const fn id(mut self, id: &'static str) -> Self {
        assert_id(id);
        self.id = Some(id);
        self
    }

    /// Earlier ids of the handler: deliveries that are stored under them are still run. `aliases(..)`.
    #[must_use]
    pub const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// What the handler's arguments will look for, so that `run()` finds what is missing: the
    /// [`needs`](crate::HandlerArg::needs) of each.
    #[must_use]
    pub const fn needs(mut self, needs: &'static [fn(&mut Needs)]) -> Self {
        self.needs = needs;
        self
    }

    /// The queue of its deliveries: `queue = ".."`.
    ///
    /// # Panics
    /// In process, where there is none: in a constant, that stops the build.
    #[must_use]
    pub const fn queue(mut self, queue: &'static str) -> Self {
        assert_id(queue);
        match &mut self.call {
            Call::Background(stores, ()) | Call::Outbox(stores, ()) => stores.queue = queue,
            Call::InProcess(..) | Call::InTransaction(..) => panic!("`queue` has no effect on an in-process handler"),
        }
        self
    }

    /// How its deliveries are retried: `retries`, `backoff` and `timeout`.
    ///
    /// # Panics
    /// In process, where nothing is retried: in a constant, that stops the build.
    #[must_use]
    pub const fn policy(mut self, policy: Policy) -> Self {
        match &mut self.call {
            Call::Background(stores, ()) | Call::Outbox(stores, ()) => stores.policy = policy,
            Call::InProcess(..) | Call::InTransaction(..) => panic!("a policy has no effect on an in-process handler"),
        }
        self
    }

    /// On what terms its deliveries are taken: `priority`, `concurrency`, `unique` and `ordered_by`.
    ///
    /// # Panics
    /// In process, where no delivery is taken; and with a `priority` beside `ordered_by`: in a constant, that stops the
    /// build.
    #[must_use]
    pub const fn terms(mut self, terms: Terms) -> Self {
        assert!(
            terms.ordered_by.is_none() || matches!(terms.priority, Priority::Normal),
            "`ordered_by` excludes `priority`: the order decides what is next"
        );
        match &mut self.call {
            Call::Background(stores, ()) | Call::Outbox(stores, ()) => stores.terms = terms,
            Call::InProcess(..) | Call::InTransaction(..) => panic!("terms have no effect on an in-process handler"),
        }
        self
    }

    /// Where the handler is declared; [`register!`](crate::register) says it.
    #[must_use]
    pub const fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    const fn new<E: Event>(name: &'static str, call: Call) -> Self {
        assert_id(name);
        Self {
            id: None,
            name,
            aliases: &[],
            event: E::ID,
            event_type: TypeId::of::<E>,
            version: E::VERSION,
            needs: &[],
            call,
            place: Place::NONE,
        }
    }
}

impl Stores {
    const fn new<E: Event>(call: &'static StoredCall<E>, decode: Decode) -> Self {
        Self { queue: "default", policy: Policy::DEFAULT, terms: Terms::DEFAULT, decode, call }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InProcess(..) => f.write_str("InProcess"),
            Self::InTransaction(..) => f.write_str("InTransaction"),
            Self::Background(stores, ()) => f.debug_tuple("Background").field(stores).finish(),
            Self::Outbox(stores, ()) => f.debug_tuple("Outbox").field(stores).finish(),
        }
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stores")
            .field("queue", &self.queue)
            .field("policy", &self.policy)
            .field("terms", &self.terms)
            .field("is_async", &self.call.is_async())
            .finish_non_exhaustive()
    }
}

/// How a handler of the event `E` on a stored route is called.
#[derive(Debug)]
pub enum StoredCall<E> {
    /// An `async fn`.
    Async(for<'a> fn(Received<'a, E>, &mut Context<'a>) -> Running<'a>),
    /// A plain `fn`: it runs on the blocking pool.
    Plain(for<'a> fn(Received<'a, E>, &mut Context<'a>) -> HandlerResult),
}

/// A `StoredCall` whose event's type is known only inside. The event is an `Option<E>`.
#[doc(hidden)]
pub trait ErasedCall: Send + Sync {
    fn is_async(&self) -> bool;
    fn start<'a>(&self, event: &'a mut (dyn Any + Send), context: &mut Context<'a>) -> Running<'a>;
    fn run_blocking<'a>(&self, event: &'a mut (dyn Any + Send), context: &mut Context<'a>) -> HandlerResult;
}

// Of any `E`: the macro says elsewhere, once, that a type is no event.
impl<E: 'static> ErasedCall for StoredCall<E> {
    fn is_async(&self) -> bool {
        matches!(self, Self::Async(_))
    }

    fn start<'a>(&self, event: &'a mut (dyn Any + Send), context: &mut Context<'a>) -> Running<'a> {
        match self {
            Self::Async(call) => call(Received::of(event), context),
            Self::Plain(_) => unreachable!("the worker asks first which of the two it is"),
        }
    }

    fn run_blocking<'a>(&self, event: &'a mut (dyn Any + Send), context: &mut Context<'a>) -> HandlerResult {
        match self {
            Self::Plain(call) => call(Received::of(event), context),
            Self::Async(_) => unreachable!("the worker asks first which of the two it is"),
        }
    }
}
