//! The options of both attributes: which there are, where they belong, and what they may say.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::Type;

use crate::{
    args::{self, Arg, Errors, Text},
    route::{self, ROUTES, Route, STORED},
};

/// What `#[event(..)]` says.
#[derive(Default)]
pub struct EventOptions {
    pub transactional: bool,
    pub common: Common,
}

/// What `#[handler(..)]` says.
pub struct HandlerOptions {
    /// `None` where it is missing, or is no type.
    pub event: Option<TokenStream>,
    /// `None` where it is not known which one is meant.
    pub route: Option<Route>,
    pub common: Common,
}

/// The options that both attributes have.
#[derive(Default)]
pub struct Common {
    pub id: Option<Text>,
    pub aliases: Vec<Text>,
    /// `crate = path`
    pub library: Option<TokenStream>,
}

pub const COMMON: &[&str] = &["id", "aliases", "crate"];

pub fn of_event(args: TokenStream, errors: &mut Errors) -> EventOptions {
    let elsewhere = |name: &str, arg: &Arg| {
        let of_handler = match name {
            _ if ROUTES.contains(&name) => suggestion(arg),
            _ if STORED.contains(&name) => format!("background({})", suggestion(arg)),
            _ => return None,
        };
        let help = format!("write it on the handler: `#[handler(.., {of_handler})]`");
        Some(format!("`{name}` is an option of a handler, not of an event\n\n= help: {help}"))
    };
    let known = &["transactional", "id", "aliases", "crate"];
    let list = List { title: "#[event(..)]", known, elsewhere: &elsewhere };
    let mut result = EventOptions::default();
    for (name, arg) in list.options(&Arg::list(args), errors) {
        match (name.as_str(), arg) {
            ("transactional", Arg::Word(_)) => result.transactional = true,
            ("transactional", _) => misshapen(&name, arg, errors),
            _ => result.common.read(&name, arg, false, errors),
        }
    }
    result
}

/// `attribute` is where an error points that has no token of its own; `example` is the event that the function's first
/// argument suggests.
pub fn of_handler(args: TokenStream, attribute: Span, example: &str, errors: &mut Errors) -> HandlerOptions {
    let mut args = Arg::list(args);
    let event = take_event(&mut args, attribute, example, errors);

    let mut names = args.iter().filter_map(Arg::name).map(ToString::to_string);
    let stored_route = names.find(|name| name == "background" || name == "outbox");
    let elsewhere = |name: &str, arg: &Arg| {
        let (owner, help) = match (name, &stored_route) {
            ("in_transaction", _) => ("the route", "write `in_process(in_transaction)`".to_owned()),
            ("transactional", _) => {
                ("the event", "declare the event `#[event(transactional)]`, and write `outbox` here".to_owned())
            }
            _ if !STORED.contains(&name) => return None,
            (_, Some(route)) => ("the route", format!("move it inside: `{route}({})`", suggestion(arg))),
            (_, None) => return Some(route::no_effect_in_process(name, arg)),
        };
        Some(format!("`{name}` is an option of {owner}\n\n= help: {help}"))
    };
    let known = &["in_process", "background", "outbox", "id", "aliases", "crate"];
    let list = List { title: "#[handler(..)]", known, elsewhere: &elsewhere };
    let errors_before = errors.count();
    let options = list.options(&args, errors);
    // One that is not known may be a misspelt route, which must not be checked as if it were in-process.
    let all_known = errors.count() == errors_before;

    let mut result = HandlerOptions { event, route: None, common: Common::default() };
    let mut earlier: Option<&str> = None;
    for (name, arg) in &options {
        if !ROUTES.contains(&name.as_str()) {
            result.common.read(name, arg, true, errors);
        } else if let Some(earlier) = earlier {
            errors.at(arg, format!("`{name}` conflicts with `{earlier}`: a handler has one route"));
        } else {
            result.route = Route::read(name, arg, errors);
            earlier = Some(name);
        }
    }
    if earlier.is_none() && all_known {
        result.route = Some(Route::InProcess);
    }
    result
}

/// The event stands first. Where an option stands there instead, the event was forgotten.
fn take_event(args: &mut Vec<Arg>, attribute: Span, example: &str, errors: &mut Errors) -> Option<TokenStream> {
    let is_option = |name: &str| ROUTES.contains(&name) || COMMON.contains(&name) || STORED.contains(&name);
    match args.first() {
        Some(Arg::Word(name)) if !is_option(&name.to_string()) => Some(args.remove(0).into_token_stream()),
        Some(Arg::Bare(_)) => {
            let event = args.remove(0).into_token_stream();
            match syn::parse2(event.clone()) {
                Ok(Type::Path(_) | Type::Group(_)) => return Some(event),
                _ => errors.at(
                    &event,
                    format!("the event is written as its type's name\n\n= help: write `#[handler({example})]`"),
                ),
            }
            None
        }
        Some(option) => {
            let help = format!("= help: write `#[handler({example}, {})]`", suggestion(option));
            errors.at(option, format!("`#[handler]` needs the event, before anything else\n\n{help}"));
            None
        }
        None => {
            let help = format!("= help: write `#[handler({example})]`");
            errors.on(attribute, format!("`#[handler]` needs the event that it handles\n\n{help}"));
            None
        }
    }
}

impl Common {
    /// Reads an option that both attributes have. Only a handler's default id has a slash, so only its aliases may.
    fn read(&mut self, name: &str, arg: &Arg, of_handler: bool, errors: &mut Errors) {
        match (name, arg) {
            ("id", Arg::Value(_, value)) => match args::string(value) {
                Some(id) if is_name(&id.text) => self.id = Some(id),
                Some(id) => errors.on(id.span, unnamable("an id", &id.text)),
                None if is_constant(name, value, errors) => {}
                None => misshapen(name, arg, errors),
            },
            ("aliases", Arg::List(_, list)) if !list.is_empty() => {
                let parts = if of_handler { 2 } else { 1 };
                for alias in list {
                    let value = alias.to_token_stream();
                    match args::string(&value) {
                        Some(alias) if self.aliases.iter().any(|earlier| earlier.text == alias.text) => {
                            errors.on(alias.span, format!("the alias `{}` is given twice", alias.text));
                        }
                        Some(alias) if alias.text.splitn(parts, '/').all(is_name) => self.aliases.push(alias),
                        Some(alias) => errors.on(alias.span, unnamable("an alias", &alias.text)),
                        None if is_constant(name, &value, errors) => {}
                        None => misshapen(name, alias, errors),
                    }
                }
            }
            ("crate", Arg::Value(_, path)) if args::is_path(path) => self.library = Some(path.clone()),
            _ => misshapen(name, arg, errors),
        }
    }
}

/// A list of options, by the name that errors give it.
pub struct List<'a> {
    pub title: &'a str,
    pub known: &'a [&'a str],
    /// What to say of an option that belongs somewhere else.
    pub elsewhere: &'a dyn Fn(&str, &Arg) -> Option<String>,
}

impl List<'_> {
    /// The known options among `args`, each once; the others are mistakes.
    pub fn options<'a>(&self, args: &'a [Arg], errors: &mut Errors) -> Vec<(String, &'a Arg)> {
        let known = format!("= note: known options are `{}`", self.known.join("`, `"));
        let mut options = Vec::<(String, &Arg)>::new();
        for arg in args {
            let Some(ident) = arg.name() else {
                errors.at(arg, format!("expected an option of `{}`\n\n{known}", self.title));
                continue;
            };
            let name = ident.to_string();
            if options.iter().any(|(earlier, _)| *earlier == name) {
                errors.on(ident.span(), format!("`{name}` is given twice"));
            } else if matches!(arg, Arg::Value(_, value) if value.is_empty()) {
                misshapen(&name, arg, errors);
            } else if self.known.contains(&name.as_str()) {
                options.push((name, arg));
            } else if let Some(text) = (self.elsewhere)(&name, arg) {
                errors.on(ident.span(), text);
            } else {
                let meant = args::nearest(&name, self.known).map(|meant| format!("= help: did you mean `{meant}`?\n"));
                let meant = meant.unwrap_or_default();
                errors.on(ident.span(), format!("unknown option in `{}`: `{name}`\n\n{meant}{known}", self.title));
            }
        }
        options
    }
}

/// The option is known, and not written as it should be.
pub fn misshapen(name: &str, at: &Arg, errors: &mut Errors) {
    let form = match name {
        "in_process" => "`in_process` or `in_process(in_transaction)`".to_owned(),
        "background" | "outbox" => format!(r#"`{name}` or `{name}(queue = "..")`"#),
        "backoff" => r#"`backoff("1s", max = "1h")` or `backoff(fixed = "10s")`"#.to_owned(),
        _ => form(name).map_or_else(|| "alone".to_owned(), |form| format!("`{form}`")),
    };
    errors.at(at, format!("`{name}` is written {form}"));
}

/// True, and a mistake, where a path stands for the option's literal.
pub fn is_constant(name: &str, value: &TokenStream, errors: &mut Errors) -> bool {
    let constant = args::is_path(value);
    if constant {
        let why = "attributes are read before constants are";
        let help = form(name).map_or_else(String::new, |form| format!("\n\n= help: write `{form}`"));
        errors.at(value, format!("`{name}` takes a literal, not a constant: {why}{help}"));
    }
    constant
}

/// How an option with a value is written.
fn form(option: &str) -> Option<&'static str> {
    Some(match option {
        "id" => r#"id = "..""#,
        "aliases" => r#"aliases("..")"#,
        "crate" => "crate = path::to::evented",
        "queue" => r#"queue = "..""#,
        "retries" => "retries = 8",
        "timeout" => r#"timeout = "30s""#,
        "backoff" => r#"backoff("1s", max = "1h")"#,
        _ => return None,
    })
}

/// The option as a help text repeats it: as it is written, or as it should be.
pub fn suggestion(arg: &Arg) -> String {
    let form = arg.name().and_then(|name| form(&name.to_string()));
    let other_form = form.filter(|form| match arg {
        Arg::Value(..) => form.ends_with(')'),
        Arg::List(..) => !form.ends_with(')'),
        Arg::Word(_) | Arg::Bare(_) => true,
    });
    other_form.map_or_else(|| arg.written(), ToOwned::to_owned)
}

/// Whether `text` may be an id or the name of a queue.
pub fn is_name(text: &str) -> bool {
    (1..=100).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

pub fn unnamable(what: &str, text: &str) -> String {
    format!("{what} cannot be `{text:?}`\n\n= help: use 1 to 100 ASCII letters, digits, `_`, `.` and `-`")
}
