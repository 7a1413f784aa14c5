//! What is linked, for a person and for a test: the handlers, and the crates that they came from.

use std::{collections::BTreeMap, env, fmt, fs, path::Path};

use crate::{event::Place, registry::registry, retry::Policy, store::Route, terms::Terms};

/// A handler that this binary links.
///
/// Its `Display` is one line without the place, as [`assert_catalog!`](crate::assert_catalog) pins it:
/// `OrderPlaced/send_mail: OrderPlaced, background(queue = "mail", retries = 8, ..), crate shop`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registered {
    /// The handler's id.
    pub handler: String,
    /// Its event's id.
    pub event: &'static str,
    /// Its route.
    pub route: Route,
    /// Whether it runs inside `emit_in`: `in_process(in_transaction)`.
    pub in_transaction: bool,
    /// The queue of its deliveries; `None` in process.
    pub queue: Option<&'static str>,
    /// How its deliveries are retried; `None` in process.
    pub policy: Option<Policy>,
    /// On what terms its deliveries are taken; `None` in process.
    pub terms: Option<Terms>,
    /// The crate that it stands in, as code names it.
    pub crate_name: &'static str,
    /// Where it stands in the source.
    pub place: Place,
}

impl fmt::Display for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { handler, event, route, in_transaction, crate_name, .. } = self;
        write!(f, "{handler}: {event}, {route}")?;
        if *in_transaction {
            f.write_str("(in_transaction)")?;
        }
        if let (Some(queue), Some(policy), Some(terms)) = (self.queue, self.policy, self.terms) {
            let comma = if terms == Terms::DEFAULT { "" } else { ", " };
            write!(f, "(queue = {queue:?}, {policy}{comma}{terms})")?;
        }
        write!(f, ", crate {crate_name}")
    }
}

/// Every handler that this binary links, sorted by id.
///
/// A crate that stands in `Cargo.toml` but is never named in code is not linked, and its handlers vanish without a
/// word: [`link!`](crate::link) names it, and a test that pins this list notices when one is missing.
///
/// ```
/// let handlers: Vec<_> = evented::catalog().into_iter().map(|registered| registered.handler).collect();
/// assert!(handlers.is_empty(), "this example links no handler");
/// ```
#[must_use]
pub fn catalog() -> Vec<Registered> {
    let handlers = registry().handlers.iter();
    let registered = handlers.map(|handler| Registered {
        handler: handler.id.to_string(),
        event: handler.event,
        route: handler.route,
        in_transaction: handler.is_in_transaction(),
        queue: handler.stored.map(|stored| stored.queue),
        policy: handler.stored.map(|stored| stored.policy),
        terms: handler.stored.map(|stored| stored.terms),
        crate_name: handler.place.crate_name(),
        place: handler.place,
    });
    registered.collect()
}

/// Asserts, in a test, that the binary links exactly the handlers that a file lists, with their routes and policies.
///
/// ```no_run
/// evented::link!(serde);            // the crates with handlers, as in `main.rs`
///
/// #[test]
/// fn the_handlers_are_those_that_we_know() {
///     evented::assert_catalog!("tests/handlers.txt");
/// }
/// # fn main() {}
/// ```
///
/// The path is relative to the package. With `EVENTED_BLESS=1` in the environment the file is written instead; commit it.
///
/// # Panics
/// When the lists differ: the text shows the lines that do. When two handlers have one id.
#[macro_export]
macro_rules! assert_catalog {
    ($path:expr) => {
        $crate::__private::assert_catalog($crate::__private::env!("CARGO_MANIFEST_DIR"), $path)
    };
}

/// What [`assert_catalog!`](crate::assert_catalog) does.
#[doc(hidden)]
#[track_caller]
pub fn assert_catalog(package: &str, path: &str) {
    const BLESS: &str = "to accept the change, run the test with EVENTED_BLESS=1, and commit the file";
    let problems: Vec<String> = registry().duplicates().into_iter().chain(registry().unregistered()).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let mut found = catalog().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    found.push('\n');
    let file = Path::new(package).join(path);
    if env::var_os("EVENTED_BLESS").is_some_and(|value| value == "1") {
        fs::write(&file, found).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        return;
    }
    let listed = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}; {BLESS}", file.display()));
    let (listed, found): (Vec<_>, Vec<_>) = (listed.lines().collect(), found.lines().collect());
    let lost = listed.iter().filter(|line| !found.contains(line)).map(|line| format!("\n  - {line}"));
    let new = found.iter().filter(|line| !listed.contains(line)).map(|line| format!("\n  + {line}"));
    let differences: String = lost.chain(new).collect();
    assert!(
        differences.is_empty(),
        "the linked handlers (+) are not those that {path} lists (-):{differences}\n\
         a handler that is missing may be in a crate that no code names: `evented::link!(the_crate)`; {BLESS}"
    );
}

/// One line in the log for each crate with events or handlers, one for each event, and a warning for each crate that is
/// named in vain.
pub(crate) fn log_linked() {
    let mut crates: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for event in &registry().events {
        crates.entry(event.place.crate_name()).or_default().0 += 1;
        let handlers = registry().handlers.iter().filter(|handler| handler.event == event.id).count();
        tracing::info!(
            event = event.id, version = event.version, storable = event.storable, handlers, place = %event.place, "event"
        );
    }
    for handler in &registry().handlers {
        crates.entry(handler.place.crate_name()).or_default().1 += 1;
    }
    for (name, (events, handlers)) in &crates {
        tracing::info!(name, events, handlers, "crate");
    }
    for link in &registry().links {
        for name in link.crates.iter().filter(|name| !crates.contains_key(**name)) {
            tracing::warn!(name, place = %link.place, "a crate that `evented::link!` names has neither an event nor a handler");
        }
    }
}
