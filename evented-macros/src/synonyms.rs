//! Words that other libraries have for what evented has, and other spellings of a route: what is meant by them.

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};
use quote::ToTokens;

use crate::{
    args::{self, Arg, Errors},
    forms::suggestion,
    options::is_option,
};

/// The options, each with its names elsewhere.
const OPTIONS: &[(&str, &[&str])] = &[
    ("id", &["name"]),
    ("queue", &["topic", "channel", "group"]),
    ("retries", &["max_retries", "retry", "attempts", "max_attempts"]),
    ("backoff", &["retry_delay", "retry_after"]),
    ("timeout", &["deadline", "time_limit"]),
    ("concurrency", &["max_concurrency", "parallelism", "workers"]),
    ("unique", &["dedup", "deduplicate", "idempotent"]),
    ("ordered_by", &["order_by", "ordering_key", "partition_key", "fifo"]),
];

/// What no option says, and where it is said.
const NO_OPTIONS: &[(&[&str], &str)] = &[
    (&["delay", "after", "run_at"], "the emitter says when: `emit(event).after(..)`"),
    (&["cron", "schedule", "every", "interval"], "emit the event from a timer, such as `tokio::time::interval`"),
    (&["rate_limit", "throttle"], "`concurrency = 4` limits how many run at once, whatever their rate"),
];

/// What an event's id is called elsewhere.
const IDS: &[&str] = &["name", "topic", "subject", "channel", "kind"];

/// The routes, what each is for, and its names elsewhere; letters alone count.
const ROUTES: &[(&str, &str, &[&str])] = &[
    ("background", "to have a worker run the handler", &["async", "queue", "queued", "worker", "job", "deferred"]),
    ("in_process", "to run the handler inside `emit`", &["sync", "inline", "local"]),
    ("outbox", "to run the handler after the emitter's commit", &["aftercommit", "oncommit"]),
    ("in_process(in_transaction)", "to run the handler inside `emit_in`", &["beforecommit"]),
];

/// The option that `name` is elsewhere.
pub fn of_option(name: &str) -> Option<&'static str> {
    OPTIONS.iter().find(|(_, names)| names.contains(&name)).map(|(option, _)| *option)
}

/// What to say of an option that evented has not.
pub fn no_option(name: &str) -> Option<String> {
    let (_, help) = NO_OPTIONS.iter().find(|(names, _)| names.contains(&name))?;
    Some(format!("evented has no option `{name}`\n\n= help: {help}"))
}

/// What to say of an event's id under another name.
pub fn of_id(name: &str, arg: &Arg) -> Option<String> {
    let help = suggestion(&arg.renamed("id"));
    IDS.contains(&name).then(|| format!("`{name}` is called `id` here\n\n= help: write `{help}`"))
}

/// Each route in another spelling or word, or with a name before it, becomes that route. True, and a mistake, if there is one.
pub fn respelt_routes(args: &mut [Arg], errors: &mut Errors) -> bool {
    let mut found = false;
    for arg in args {
        if let Some((route, text)) = respelt_route(arg) {
            errors.at(arg, text);
            *arg = route;
            found = true;
        }
    }
    found
}

/// The route that is meant, and what to say.
pub fn respelt_route(arg: &Arg) -> Option<(Arg, String)> {
    let (written, options) = match arg {
        // A queue alone is a route, and one with a value is an option.
        Arg::Word(name) if name == "queue" => (name.to_token_stream(), None),
        Arg::Word(name) | Arg::Value(name, _) | Arg::List(name, _)
            if is_option(&name.to_string()) || name == "in_transaction" =>
        {
            return None;
        }
        Arg::Word(name) => (name.to_token_stream(), None),
        Arg::List(name, options) => (name.to_token_stream(), Some(options.clone())),
        Arg::Value(_, tokens) | Arg::Bare(tokens) => split_options(tokens),
    };
    let (route, why) = meant(&written)?;
    let form = if options.is_some() { format!("{route}(..)") } else { route.to_owned() };
    let text = if matches!(arg, Arg::Value(..)) {
        format!("a route is written by its name alone\n\n= help: write `{form}`")
    } else {
        let why = why.map_or_else(String::new, |why| format!("{why}, "));
        format!("`{}` is no route\n\n= help: {why}write `{form}`", written.to_string().replace(' ', ""))
    };
    let span = written.into_iter().next()?.span();
    let in_transaction = || vec![Arg::Word(Ident::new("in_transaction", span))];
    let route = match (route.split_once('('), options) {
        (Some((route, _)), _) => Arg::List(Ident::new(route, span), in_transaction()),
        (None, Some(options)) => Arg::List(Ident::new(route, span), options),
        (None, None) => Arg::Word(Ident::new(route, span)),
    };
    Some((route, text))
}

/// `Background(queue = "mail")` behind a path or a name.
fn split_options(tokens: &TokenStream) -> (TokenStream, Option<Vec<Arg>>) {
    let mut tokens: Vec<_> = tokens.clone().into_iter().collect();
    let is_list =
        |last: &mut TokenTree| matches!(last, TokenTree::Group(list) if list.delimiter() == Delimiter::Parenthesis);
    let options = match tokens.pop_if(is_list) {
        Some(TokenTree::Group(list)) => Some(Arg::list(list.stream())),
        _ => None,
    };
    (tokens.into_iter().collect(), options)
}

/// The route, and what it is for where the word is not the route's own.
fn meant(written: &TokenStream) -> Option<(&'static str, Option<&'static str>)> {
    let text = args::string(written).map_or_else(|| written.to_string(), |text| text.text);
    let is_word = |c: char| c.is_ascii_alphabetic() || "_- :".contains(c);
    let last = text.rsplit("::").next().filter(|_| text.chars().all(is_word))?;
    let letters: String = last.chars().filter(char::is_ascii_alphabetic).collect();
    let is_own = |route: &str| {
        let own = route.rsplit('(').next().unwrap_or(route);
        own.replace(['_', ')'], "") == letters.to_lowercase()
    };
    let own = ROUTES.iter().find(|(route, ..)| is_own(route)).map(|(route, ..)| (*route, None));
    // In capitals, another word is a type's name rather.
    let other = || ROUTES.iter().find(|(.., words)| words.contains(&&*letters));
    own.or_else(|| other().map(|(route, why, _)| (*route, Some(*why))))
}
