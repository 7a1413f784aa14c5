//! What the linker collected: every `#[event]` and `#[handler]` of the crates that the binary names.

use std::{
    any::TypeId,
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use crate::{
    context::Needs,
    def::{Call, EventDef, HandlerDef, MakeHandler, Stores},
    event::{Event, Place},
    slot::{Entry, Filled, InProcessCall},
    store::{CatalogueEntry, Route},
};

inventory::collect!(EventDef);
inventory::collect!(HandlerDef);
inventory::collect!(MakeHandler);
inventory::collect!(LinkDef);

/// Registers an event or a handler that is written [`by_hand`](crate::by_hand), at link time.
#[macro_export]
macro_rules! register {
    ($def:expr $(,)?) => {
        $crate::__private::inventory::submit! {
            ($def).at($crate::__private::Place {
                file: $crate::__private::file!(),
                line: $crate::__private::line!(),
                module: $crate::__private::module_path!(),
            })
        }
    };
}

/// Links the crates that hold events and handlers: `evented::link!(orders, billing);`, once in the binary.
///
/// Cargo does not link a crate that is never named in code, though it stands in `Cargo.toml`, and its handlers would vanish
/// without a word. This names each, and [`run()`](crate::run()) warns of one that has neither an event nor a handler. The
/// package's own library counts: a `main.rs` beside a `lib.rs` names it here too, and so does each file in `tests/`.
///
/// ```
/// # mod facade {
/// evented::link!(serde, evented);
/// # }
/// ```
///
/// rustc finds what is missing here: with `unused_crate_dependencies = "warn"` in the binary's `[lints.rust]` it names each
/// dependency that no code does.
#[macro_export]
macro_rules! link {
    ($($name:ident),+ $(,)?) => {
        $(use $name as _;)+
        $crate::__private::inventory::submit! {
            $crate::__private::LinkDef {
                crates: &[$($crate::__private::stringify!($name)),+],
                place: $crate::__private::Place {
                    file: $crate::__private::file!(),
                    line: $crate::__private::line!(),
                    module: $crate::__private::module_path!(),
                },
            }
        }
    };
}

/// What [`link!`](crate::link) names.
#[doc(hidden)]
#[derive(Debug)]
pub struct LinkDef {
    pub crates: &'static [&'static str],
    pub place: Place,
}

/// The registrations of this binary, sorted by id: inventory's own order is unspecified.
pub(crate) struct Registry {
    pub events: Vec<&'static EventDef>,
    pub handlers: Vec<Linked>,
    /// What `link!` names.
    pub links: Vec<&'static LinkDef>,
}

/// A linked handler.
pub(crate) struct Linked {
    pub id: Arc<str>,
    /// Earlier ids, those included that follow from the event's aliases.
    pub aliases: Vec<String>,
    pub event: &'static str,
    pub event_aliases: &'static [&'static str],
    pub route: Route,
    pub needs: Needs,
    pub place: Place,
    /// The highest version of its event's payloads that it reads.
    pub version: u32,
    /// `None` for in-process handlers.
    pub stored: Option<Stores>,
    def: HandlerDef,
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let mut events: Vec<_> = inventory::iter::<EventDef>.into_iter().collect();
    events.sort_by_key(|event| (event.id, event.place.file, event.place.line));
    let by_hand = inventory::iter::<HandlerDef>.into_iter().copied();
    let by_attribute = inventory::iter::<MakeHandler>.into_iter().map(|MakeHandler(make)| make());
    let mut handlers: Vec<_> = by_hand.chain(by_attribute).map(|def| Linked::new(&def, &events)).collect();
    handlers.sort_by(|a, b| (&a.id, a.place.file, a.place.line).cmp(&(&b.id, b.place.file, b.place.line)));
    Registry { events, handlers, links: inventory::iter::<LinkDef>.into_iter().collect() }
});

pub(crate) fn registry() -> &'static Registry {
    &REGISTRY
}

impl Linked {
    fn new(def: &HandlerDef, events: &[&'static EventDef]) -> Self {
        let event_type = (def.event_type)();
        let event = events.iter().find(|event| (event.type_id)() == event_type);
        let event_aliases = event.map_or(&[][..], |event| event.aliases);
        let mut aliases: Vec<String> = def.aliases.iter().map(|&alias| alias.to_owned()).collect();
        if def.id.is_none() {
            // The default id is made of the event's id, so an event's earlier ids made earlier ids of it.
            aliases.extend(event_aliases.iter().map(|event| format!("{event}/{}", def.name)));
        }
        let mut needs = Needs::default();
        for of_argument in def.needs {
            of_argument(&mut needs);
        }
        let (route, stored) = match def.call {
            Call::InProcess(..) | Call::InTransaction(..) => (Route::InProcess, None),
            Call::Background(stores, ()) => (Route::Background, Some(stores)),
            Call::Outbox(stores, ()) => (Route::Outbox, Some(stores)),
        };
        Self {
            id: def.id.map_or_else(|| format!("{}/{}", def.event, def.name).into(), Into::into),
            aliases,
            event: def.event,
            version: def.version,
            event_aliases,
            route,
            needs,
            place: def.place,
            stored,
            def: *def,
        }
    }

    pub(crate) fn is_in_transaction(&self) -> bool {
        matches!(self.def.call, Call::InTransaction(..))
    }

    /// A transactional handler: one that takes `&mut Tx<Db>` on a stored route.
    pub(crate) fn takes_tx(&self) -> bool {
        !self.needs.databases.is_empty()
    }

    /// As the catalogue records it; `None` for an in-process handler, which only its own process can run.
    pub(crate) fn entry(&self) -> Option<CatalogueEntry> {
        let stored = self.stored?;
        Some(CatalogueEntry {
            handler: Arc::clone(&self.id),
            aliases: self.aliases.clone(),
            event: self.event.to_owned(),
            event_aliases: self.event_aliases.iter().map(|&alias| alias.to_owned()).collect(),
            route: self.route,
            queue: stored.queue.to_owned(),
            policy: stored.policy,
        })
    }
}

impl Registry {
    /// Handlers that are registered by hand, of an event that is not. Each problem names the handler's place.
    pub(crate) fn unregistered(&self) -> impl Iterator<Item = String> {
        let is_there = |wanted: TypeId| self.events.iter().any(|event| (event.type_id)() == wanted);
        let without = self.handlers.iter().filter(move |handler| !is_there((handler.def.event_type)()));
        without.map(|handler| {
            let Linked { id, event, place, .. } = handler;
            format!("handler `{id}` ({place}) is of event `{event}`, which is not registered; {REGISTER_IT}")
        })
    }

    /// Two events or two handlers of one name, whether by id or by alias. Each problem names both places.
    pub(crate) fn duplicates(&self) -> Vec<String> {
        let events = self.events.iter().flat_map(|event| {
            let names = std::iter::once(event.id).chain(event.aliases.iter().copied());
            names.map(|name| (name.to_owned(), event.place))
        });
        let handlers = self.handlers.iter().flat_map(|handler| {
            let names = std::iter::once(&*handler.id).chain(handler.aliases.iter().map(String::as_str));
            names.map(|name| (name.to_owned(), handler.place))
        });
        let mut problems = same_names(events, "events");
        problems.extend(same_names(handlers, "handlers"));
        problems
    }
}

fn same_names(named: impl Iterator<Item = (String, Place)>, what: &str) -> Vec<String> {
    let mut places: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for (name, place) in named {
        let places = places.entry(name).or_default();
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let shared = places.into_iter().filter(|(_, places)| places.len() > 1);
    let say = |(name, places): (String, Vec<Place>)| {
        let places: Vec<_> = places.iter().map(Place::to_string).collect();
        format!(
            "{} {what} are named `{name}`: {}; give one of them an `id`",
            count_word(places.len()),
            places.join(" and ")
        )
    };
    shared.map(say).collect()
}

fn count_word(count: usize) -> String {
    if count == 2 { "two".to_owned() } else { count.to_string() }
}

/// What to do about an event without its registration. Only one that is written by hand can be so.
const REGISTER_IT: &str = "mark its type `#[event]`, or write `evented::register!(EventDef::of::<..>())` beside it";

/// Fills an event type's slot: its in-process handlers, in the order of their ids.
pub(crate) fn fill<E: Event>() -> Filled<E> {
    let registry = registry();
    let this = TypeId::of::<E>();
    let event = registry.events.iter().position(|event| (event.type_id)() == this);
    let mut filled = Filled {
        event: event.unwrap_or_else(|| panic!("event `{}` is not registered; {REGISTER_IT}", E::ID)),
        in_process: Box::default(),
        in_transaction: Box::default(),
        all_sync: true,
        needs_instance: false,
    };
    let mut in_process = Vec::new();
    let mut in_transaction = Vec::new();
    for (index, handler) in registry.handlers.iter().enumerate() {
        if (handler.def.event_type)() != this {
            continue;
        }
        filled.needs_instance |= handler.stored.is_some() || !handler.needs.is_empty();
        let (call, entries) = match handler.def.call {
            Call::InProcess(call, ()) => (call, &mut in_process),
            Call::InTransaction(call, ()) => (call, &mut in_transaction),
            Call::Background(..) | Call::Outbox(..) => continue,
        };
        let call = *call.downcast_ref::<InProcessCall<E>>().expect("`#[handler]` registers a call of its event's type");
        entries.push(Entry { handler: index, call });
    }
    filled.all_sync = in_process.iter().all(|entry| matches!(entry.call, InProcessCall::Plain(_)));
    filled.in_process = in_process.into();
    filled.in_transaction = in_transaction.into();
    filled
}

/// Every name under which a delivery of a linked handler may be stored, with the handler's place in the registry.
pub(crate) fn names_of(handlers: impl Iterator<Item = usize>) -> HashMap<Arc<str>, usize> {
    let named = handlers.flat_map(|index| {
        let handler = &registry().handlers[index];
        let aliases = handler.aliases.iter().map(|alias| Arc::from(alias.as_str()));
        std::iter::once(Arc::clone(&handler.id)).chain(aliases).map(move |name| (name, index))
    });
    named.collect()
}
