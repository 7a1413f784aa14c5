//! Who gets an event: the catalogues of the stores united with the handlers that this process links.
//!
//! Never the own handlers alone: a web binary that links none must store for the worker's. Never the catalogue alone: a
//! handler that was just linked counts from its first event.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    def::EventDef,
    id::{DeliveryId, EventId, Key},
    key::value_of,
    origin::Origin,
    retry::Policy,
    store::{CatalogueEntry, CatalogueState, NewDelivery, Payload, Route, UniqueKey},
};

/// Who gets each event, computed once for each state of the catalogues.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    pub queue_generation: u64,
    pub outbox_generation: u64,
    by_event: HashMap<String, EventPlan>,
    /// By every name, an earlier one too; also those that are in process here.
    by_handler: HashMap<String, Planned>,
}

/// Who gets one event.
#[derive(Debug, Default, Clone)]
pub(crate) struct EventPlan {
    pub background: Vec<Planned>,
    pub outbox: Vec<Planned>,
}

/// A delivery to be: the handler, the policy that travels with it, and the fields that its keys are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    pub handler: Arc<str>,
    pub policy: Policy,
    unique: Option<(String, Duration)>,
    ordered_by: Option<String>,
}

/// An event on its way to its handlers.
pub(crate) struct Fact<'e> {
    pub id: EventId,
    pub origin: Origin,
    pub version: u32,
    /// `None`: now, by the store's clock.
    pub emitted_unix_ms: Option<i64>,
    pub delay: Duration,
    pub payload: &'e Payload,
}

impl Planned {
    fn of(entry: &CatalogueEntry) -> Self {
        Self {
            handler: Arc::clone(&entry.handler),
            policy: entry.policy,
            unique: entry.unique.clone(),
            ordered_by: entry.ordered_by.clone(),
        }
    }

    /// The delivery of an event to this handler.
    pub(crate) fn delivery(&self, event: &Fact<'_>) -> NewDelivery {
        self.delivery_to(&self.handler, event)
    }

    /// The delivery that was to be this handler's when it had the name `name`: the same one, and of the same keys.
    pub(crate) fn delivery_to(&self, name: &str, event: &Fact<'_>) -> NewDelivery {
        let key = |field: &String| value_of(event.payload, field).map(|value| Key::derive(name, &value));
        NewDelivery {
            id: DeliveryId::derive(event.id, name),
            event_id: event.id,
            handler: Arc::clone(&self.handler),
            origin: event.origin.clone(),
            version: event.version,
            emitted_unix_ms: event.emitted_unix_ms,
            delay: event.delay,
            policy: self.policy,
            unique: self
                .unique
                .as_ref()
                .and_then(|(field, within)| key(field).map(|key| UniqueKey { key, within: *within })),
            order: self.ordered_by.as_ref().and_then(key),
            payload: event.payload.clone(),
        }
    }
}

impl Plans {
    /// `own`: the linked handlers on stored routes. `in_process`: the ids of linked in-process handlers; one that was on
    /// a stored route in an earlier release is not stored for.
    pub(crate) fn unite(
        own: &[CatalogueEntry],
        in_process: &HashSet<Arc<str>>,
        events: &[&'static EventDef],
        queue: &CatalogueState,
        outbox: &CatalogueState,
    ) -> Self {
        let mut entries: BTreeMap<&str, &CatalogueEntry> = BTreeMap::new();
        for entry in queue.handlers.iter().chain(&outbox.handlers) {
            entries.insert(&entry.handler, entry);
        }
        entries.extend(own.iter().map(|entry| (&*entry.handler, entry)));
        // A renamed handler gets each event once, under its new name.
        let owned: HashSet<&str> = own.iter().map(|entry| &*entry.handler).collect();
        let renamed: HashSet<String> = entries
            .values()
            .flat_map(|by| by.aliases.iter().map(move |alias| (*by, alias)))
            // A name that was given back: each calls the other its earlier name. One of them stays, the linked one first.
            .filter(|(by, alias)| {
                let mutual =
                    entries.get(alias.as_str()).is_some_and(|other| other.aliases.iter().any(|a| **a == *by.handler));
                !mutual
                    || (owned.contains(&*by.handler), alias.as_str()) > (owned.contains(alias.as_str()), &*by.handler)
            })
            .map(|(_, alias)| alias.clone())
            .collect();
        entries.retain(|handler, _| !renamed.contains(*handler));
        let mut by_handler = HashMap::new();
        for entry in entries.values() {
            for earlier in entry.aliases.iter().filter(|alias| renamed.contains(*alias)) {
                by_handler.insert(earlier.clone(), Planned::of(entry));
            }
        }
        by_handler.extend(entries.iter().map(|(handler, entry)| ((*handler).to_owned(), Planned::of(entry))));
        entries.retain(|handler, _| !in_process.contains(*handler));

        let (queue_generation, outbox_generation) = (queue.generation, outbox.generation);
        let mut plans = Self { queue_generation, outbox_generation, by_event: HashMap::new(), by_handler };
        let names =
            entries.values().flat_map(|entry| std::iter::once(&entry.event).chain(&entry.event_aliases).cloned());
        let linked = events.iter().flat_map(|event| all_names(event));
        for name in names.chain(linked).collect::<HashSet<_>>() {
            // The same event by other names, as far as this process knows.
            let own_names = events.iter().map(|event| all_names(event).collect::<Vec<_>>());
            let same: HashSet<String> =
                own_names.filter(|names| names.contains(&name)).flatten().chain([name.clone()]).collect();
            let mut plan = EventPlan::default();
            for entry in entries.values() {
                if !same.contains(&entry.event) && !entry.event_aliases.contains(&name) {
                    continue;
                }
                let planned = Planned::of(entry);
                match entry.route {
                    Route::Outbox => plan.outbox.push(planned),
                    Route::Background | Route::InProcess => plan.background.push(planned),
                }
            }
            plans.by_event.insert(name, plan);
        }
        plans
    }

    /// Whether any handler is on the background route.
    pub(crate) fn has_background(&self) -> bool {
        self.by_event.values().any(|plan| !plan.background.is_empty())
    }

    /// Who gets the event named `event`, by its id or an alias.
    pub(crate) fn of(&self, event: &str) -> Option<&EventPlan> {
        self.by_event.get(event)
    }

    /// The handler that has, or had, this name; `None` where it was retired.
    pub(crate) fn handler(&self, name: &str) -> Option<&Planned> {
        self.by_handler.get(name)
    }
}

fn all_names(event: &EventDef) -> impl Iterator<Item = String> {
    std::iter::once(event.id).chain(event.aliases.iter().copied()).map(str::to_owned)
}
