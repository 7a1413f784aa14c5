//! The options of both attributes: which there are, where they belong, and what they may say.

use proc_macro2::{Literal, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::Type;

use crate::{
    args::{self, Arg, Errors, Text},
    forms::{is_constant, is_name, misshapen, number, suggestion, unnamable},
    handled::{self, is_type, take_event},
    route::{self, ROUTES, Route, STORED},
    synonyms,
};

/// What `#[event(..)]` says.
#[derive(Default)]
pub struct EventOptions {
    pub transactional: bool,
    pub version: Option<u32>,
    /// The types that earlier versions had, the oldest first.
    pub from: Vec<TokenStream>,
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
pub const EVENT: &[&str] = &["transactional", "id", "aliases", "version", "from", "crate"];
pub const HANDLER: &[&str] = &["in_process", "background", "outbox", "id", "aliases", "crate"];

pub fn of_event(args: TokenStream, errors: &mut Errors) -> EventOptions {
    let elsewhere = |name: &str, arg: &Arg| {
        let of_handler = match name {
            _ if ROUTES.contains(&name) => suggestion(arg),
            _ if STORED.contains(&name) => format!("background({})", suggestion(arg)),
            _ => return synonyms::of_id(name, arg),
        };
        let help = format!("write it on the handler: `#[handler(.., {of_handler})]`");
        Some(format!("`{name}` is an option of a handler, not of an event\n\n= help: {help}"))
    };
    let list = List { title: "#[event(..)]", known: EVENT, elsewhere: &elsewhere };
    let mut result = EventOptions::default();
    let args = Arg::list(args);
    let options = list.options(&args, errors);
    for (name, arg) in &options {
        match (name.as_str(), arg) {
            ("transactional", Arg::Word(_)) => result.transactional = true,
            ("version", Arg::Value(_, value)) => result.version = number("version", value, 1..=65_535, errors),
            ("from", Arg::List(_, types)) if !types.is_empty() => result.read_from(types, errors),
            ("transactional" | "version" | "from", _) => misshapen(name, arg, errors),
            _ => result.common.read(name, arg, false, errors),
        }
    }
    if let Some((_, from)) = options.iter().find(|(name, _)| name == "from") {
        let is_given = options.iter().any(|(name, _)| name == "version");
        result.check_from(from, is_given, errors);
    }
    result
}

impl EventOptions {
    fn read_from(&mut self, types: &[Arg], errors: &mut Errors) {
        for ty in types {
            let tokens = ty.to_token_stream();
            match syn::parse2(tokens.clone()) {
                Ok(Type::Path(_) | Type::Group(_)) => self.from.push(tokens),
                _ => errors
                    .at(ty, "an earlier version is written as its type's name\n\n= help: write `from(OrderPlacedV1)`"),
            }
        }
    }

    fn check_from(&self, from: &Arg, is_given: bool, errors: &mut Errors) {
        let earlier = self.from.len();
        match self.version {
            Some(version) if earlier >= version as usize => {
                let help = format!("= help: write `version = {}`, or name fewer types", earlier + 1);
                let has = version - 1;
                errors.at(
                    from,
                    format!("`from(..)` names {earlier} earlier versions, and version {version} has {has}\n\n{help}"),
                );
            }
            None if !is_given => {
                let types: Vec<_> = self.from.iter().map(ToString::to_string).collect();
                let help = format!("= help: write `version = {}, from({})`", earlier + 1, types.join(", "));
                errors.at(from, format!("`from(..)` needs the version that the event has now\n\n{help}"));
            }
            _ => {}
        }
    }
}

/// `attribute` is where an error points that has no token of its own; `example` is the event that the function's first
/// argument suggests.
pub fn of_handler(args: TokenStream, attribute: Span, example: &str, errors: &mut Errors) -> HandlerOptions {
    let mut args = Arg::list(args);
    if let Some(first) = args.first_mut()
        && !handled::may_be_event(first)
        && let Some((route, _)) = synonyms::respelt_route(first)
    {
        // Who says where the event belongs also says what the route is called.
        *first = route;
    }
    let event = take_event(&mut args, attribute, example, errors);
    let errors_before = errors.count();
    let is_guessed = synonyms::respelt_routes(&mut args, errors);

    let mut names = args.iter().filter_map(Arg::name).map(ToString::to_string);
    let stored_route = names.find(|name| name == "background" || name == "outbox");
    let elsewhere = |name: &str, arg: &Arg| {
        let (owner, help) = match (name, &stored_route) {
            ("in_transaction", _) => ("the route", "write `in_process(in_transaction)`".to_owned()),
            ("transactional", _) => {
                ("the event", "declare the event `#[event(transactional)]`, and write `outbox` here".to_owned())
            }
            ("version" | "from", _) => ("the event", format!("write it there: `#[event({})]`", suggestion(arg))),
            ("route", _) => {
                let help = "= help: write `background`, `outbox` or `in_process`";
                return Some(format!("a route is written by its name alone\n\n{help}"));
            }
            _ if arg.name().is_some_and(is_type) => {
                let help = format!("= help: write a second function for `{name}`");
                return Some(format!("a handler has one event\n\n{help}"));
            }
            _ if !STORED.contains(&name) => return None,
            (_, Some(route)) => ("the route", format!("move it inside: `{route}({})`", suggestion(arg))),
            (_, None) => return Some(route::no_effect_in_process(name, arg)),
        };
        Some(format!("`{name}` is an option of {owner}\n\n= help: {help}"))
    };
    let list = List { title: "#[handler(..)]", known: HANDLER, elsewhere: &elsewhere };
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
    result.route = result.route.filter(|_| !is_guessed);
    result
}

/// True, and a mistake, where an option begins inside the entry of another.
pub fn missing_comma(arg: &Arg, known: &[&str], errors: &mut Errors) -> bool {
    let tokens: Vec<_> = match arg {
        Arg::Value(_, value) | Arg::Bare(value) => value.clone().into_iter().collect(),
        Arg::Word(_) | Arg::List(..) => return false,
    };
    for pair in tokens.windows(2) {
        let TokenTree::Ident(option) = &pair[1] else { continue };
        if !known.contains(&option.to_string().as_str()) {
            continue;
        }
        match &pair[0] {
            TokenTree::Punct(semicolon) if semicolon.as_char() == ';' => {
                errors.at(semicolon, "options are separated by commas\n\n= help: write `,` instead of `;`");
            }
            TokenTree::Punct(_) => continue,
            _ => errors.at(option, format!("a comma is missing before `{option}`")),
        }
        return true;
    }
    false
}

/// Whether a word is an option of a handler or of its route, and so hardly an event.
pub fn is_option(name: &str) -> bool {
    ROUTES.contains(&name) || COMMON.contains(&name) || STORED.contains(&name)
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
                        Some(alias) if of_handler => {
                            let help = "an alias of a handler may have one `/`, between the event's id and the function's name";
                            errors.on(alias.span, format!("{}\n= help: {help}", unnamable("an alias", &alias.text)));
                        }
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
    fn known(&self) -> String {
        let quoted = |words: &[&str]| format!("`{}`", words.join("`, `"));
        let (routes, others): (Vec<_>, Vec<_>) = self.known.iter().partition(|name| ROUTES.contains(name));
        if routes.is_empty() {
            format!("known options are {}", quoted(&others))
        } else {
            format!("known routes are {}, and known options {}", quoted(&routes), quoted(&others))
        }
    }

    /// The option whose value is probably meant by a text that stands alone.
    fn name_of(&self, arg: &Arg) -> Option<String> {
        let text = args::string(&arg.to_token_stream());
        let text = text.filter(|text| is_name(&text.text) && args::millis(&text.text).is_err())?;
        let name = ["id", "queue"].into_iter().find(|name| self.known.contains(name))?;
        Some(format!("{name} = {:?}", text.text))
    }

    /// What to say of an option that has another name here, or is none.
    fn synonym(&self, name: &str, arg: &Arg) -> Option<String> {
        let Some(option) = synonyms::of_option(name) else { return synonyms::no_option(name) };
        let counts_the_first = name.ends_with("attempts");
        let arg = match arg.renamed(option) {
            Arg::Value(name, attempts) if counts_the_first => {
                let retries =
                    args::integer(&attempts).map(|attempts| Literal::u32_unsuffixed(attempts.saturating_sub(1)));
                Arg::Value(name, retries.map_or(attempts, ToTokens::into_token_stream))
            }
            arg => arg,
        };
        let help = if self.known.contains(&option) {
            format!("write `{}`", suggestion(&arg))
        } else {
            let text = (self.elsewhere)(option, &arg)?;
            text.split_once("= help: ")?.1.to_owned()
        };
        let note = if counts_the_first { "\n= note: the first attempt is no retry" } else { "" };
        Some(format!("`{name}` is called `{option}` here\n\n= help: {help}{note}"))
    }

    /// The known options among `args`, each once; the others are mistakes.
    pub fn options<'a>(&self, args: impl IntoIterator<Item = &'a Arg>, errors: &mut Errors) -> Vec<(String, &'a Arg)> {
        let known = format!("= note: {}", self.known());
        let mut options = Vec::<(String, &Arg)>::new();
        for arg in args {
            if missing_comma(arg, self.known, errors) {
                continue;
            }
            let Some(ident) = arg.name() else {
                match arg.begins_with() {
                    // `retries: 8`, `background[..]`
                    Some(name) if self.known.contains(&name.as_str()) => misshapen(&name, arg, errors),
                    _ => {
                        let name =
                            self.name_of(arg).map(|name| format!("= help: write `{name}`\n")).unwrap_or_default();
                        errors.at(arg, format!("expected an option of `{}`\n\n{name}{known}", self.title));
                    }
                }
                continue;
            };
            let name = ident.to_string();
            if options.iter().any(|(earlier, _)| *earlier == name) {
                errors.on(ident.span(), format!("`{name}` is given twice"));
            } else if matches!(arg, Arg::Value(_, value) if value.is_empty()) {
                misshapen(&name, arg, errors);
            } else if self.known.contains(&name.as_str()) {
                options.push((name, arg));
            } else if let Some(text) = (self.elsewhere)(&name, arg).or_else(|| self.synonym(&name, arg)) {
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
