//! The event that a handler's attribute names: it stands first, and what stands there instead has its own mistake.

use proc_macro2::{Delimiter, Ident, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::Type;

use crate::{
    args::{Arg, Errors},
    forms::suggestion,
    options::{HANDLER, is_option, missing_comma},
};

/// Takes the event from the list. `attribute` is where an error points that has no token of its own; `example` is the event
/// that the function's first argument suggests.
pub fn take_event(args: &mut Vec<Arg>, attribute: Span, example: &str, errors: &mut Errors) -> Option<TokenStream> {
    if args.is_empty() {
        let help = format!("= help: write `{}`", written(example, args));
        errors.on(attribute, format!("`#[handler]` needs the event that it handles\n\n{help}"));
        return None;
    }
    let first = args.remove(0);
    if first.name().is_some_and(|name| is_option(&name.to_string())) {
        option_stands_first(first, args, example, errors);
        return None;
    }
    let named = match &first {
        Arg::Word(name) if name != "_" => return Some(first.into_token_stream()),
        Arg::Bare(event) if is_path(event) => return Some(event.clone()),
        Arg::Bare(tokens) => match between(tokens) {
            Some(([event, sign], after)) if names_type(&event) => return parted(&event, &sign, after, args, errors),
            Some((_, after)) => vec![after],
            None if missing_comma(&first, HANDLER, errors) => return None,
            None => inside(tokens),
        },
        // `OrderPlaced = background`
        Arg::Value(event, route) if is_type(event) => {
            return parted(&event.to_token_stream(), &first.to_token_stream(), route.clone(), args, errors);
        }
        Arg::Value(_, event) => inside(event),
        Arg::List(_, events) => events.iter().map(ToTokens::to_token_stream).collect(),
        Arg::Word(_) => Vec::new(),
    };
    match &*named {
        [_, _, ..] if named.iter().all(is_path) => several(&first.to_token_stream(), &named, args, errors),
        [event] if is_path(event) => not_a_type(&first, &shown(event), args, errors),
        _ => not_a_type(&first, example, args, errors),
    }
    None
}

fn not_a_type(first: &Arg, event: &str, args: &[Arg], errors: &mut Errors) {
    let help = format!("= help: write `{}`", written(event, args));
    errors.at(first, format!("the event is written as its type's name\n\n{help}"));
}

/// The event, and something behind it that is no comma: a route, or another event.
fn parted(
    event: &TokenStream,
    sign: &TokenStream,
    after: TokenStream,
    args: &mut Vec<Arg>,
    errors: &mut Errors,
) -> Option<TokenStream> {
    let mut events = vec![event.clone()];
    let mut rest = after.clone();
    while let Some(([event, _], after)) = between(&rest) {
        events.push(event);
        rest = after;
    }
    events.push(rest);
    if events.iter().all(names_type) {
        let all = events.iter().flat_map(|event| [sign, event]).skip(1).cloned().collect();
        several(&all, &events, args, errors);
        return None;
    }
    args.splice(0..0, Arg::list(after));
    let help = format!("= help: write `{}`", written(&shown(event), args));
    errors.at(sign, format!("the event and its route are separated by a comma\n\n{help}"));
    Some(event.clone())
}

fn several(at: &TokenStream, events: &[TokenStream], args: &[Arg], errors: &mut Errors) {
    let attributes: Vec<_> = events.iter().map(|event| written(&shown(event), args)).collect();
    let help = format!("= help: write one function for each: `{}`", attributes.join("`, `"));
    errors.at(at, format!("a handler has one event\n\n{help}"));
}

/// The event was forgotten, or comes later.
fn option_stands_first(option: Arg, args: &mut Vec<Arg>, example: &str, errors: &mut Errors) {
    let is_event = |arg: &Arg| match arg {
        Arg::Value(name, event) => !is_option(&name.to_string()) && names_type(event),
        arg => arg.to_token_stream().to_string() == example || arg.name().is_some_and(is_type),
    };
    // It is there, and said to be an unknown option by nobody.
    let option = match option {
        Arg::List(name, list) if list.iter().all(is_event) => Arg::Word(name),
        option => option,
    };
    if let Some(event) = args.iter().position(is_event) {
        args.remove(event);
    }
    let help = format!("= help: write `#[handler({example}, {})]`", suggestion(&option));
    errors.at(&option, format!("`#[handler]` needs the event, before anything else\n\n{help}"));
    // A mistake in the option itself is another one, unless it is what the help corrects.
    if suggestion(&option) == option.written() {
        args.insert(0, option);
    }
}

/// The attribute as it should be.
fn written(event: &str, args: &[Arg]) -> String {
    let entries: Vec<_> = std::iter::once(event.to_owned()).chain(args.iter().map(suggestion)).collect();
    format!("#[handler({})]", entries.join(", "))
}

/// A path as one writes it.
fn shown(path: &TokenStream) -> String {
    path.to_string().replace(' ', "")
}

fn is_path(tokens: &TokenStream) -> bool {
    matches!(syn::parse2(tokens.clone()), Ok(Type::Path(_) | Type::Group(_)))
}

/// Whether an entry that is spelled like a route may all the same be an event of that name.
pub fn may_be_event(first: &Arg) -> bool {
    match first {
        Arg::Word(name) | Arg::List(name, _) => is_type(name),
        Arg::Bare(tokens) => is_path(tokens),
        Arg::Value(..) => true,
    }
}

/// Whether a word is spelled like a type.
pub fn is_type(name: &Ident) -> bool {
    name.to_string().starts_with(|first: char| first.is_uppercase())
}

/// Whether a path is.
fn names_type(path: &TokenStream) -> bool {
    is_path(path) && matches!(path.clone().into_iter().last(), Some(TokenTree::Ident(last)) if is_type(&last))
}

/// What stands before the first sign that is no part of a path, the sign, and what stands after it: `A => b`, `A | B`.
fn between(tokens: &TokenStream) -> Option<([TokenStream; 2], TokenStream)> {
    let tokens: Vec<_> = tokens.clone().into_iter().collect();
    let sign = |at: usize| match tokens.get(at) {
        Some(TokenTree::Punct(sign)) => Some(sign.as_char()),
        _ => None,
    };
    let mut at = 0;
    let length = loop {
        match (sign(at), sign(at + 1)) {
            _ if at >= tokens.len() => return None,
            (Some(':'), Some(':')) => at += 2,
            (Some('=' | '-'), Some('>')) | (Some('|'), Some('|')) => break 2,
            (Some(':' | '|' | '+' | '&' | '/'), _) => break 1,
            _ => at += 1,
        }
    };
    let part = |range: &[TokenTree]| range.iter().cloned().collect::<TokenStream>();
    let (before, sign, after) = (&tokens[..at], &tokens[at..at + length], &tokens[at + length..]);
    (!before.is_empty() && !after.is_empty()).then(|| ([part(before), part(sign)], part(after)))
}

/// The entries of a list or a tuple; otherwise what is given.
fn inside(tokens: &TokenStream) -> Vec<TokenStream> {
    let mut trees = tokens.clone().into_iter();
    match (trees.next(), trees.next()) {
        (Some(TokenTree::Group(group)), None) if group.delimiter() != Delimiter::Brace => {
            Arg::list(group.stream()).iter().map(ToTokens::to_token_stream).collect()
        }
        _ => vec![tokens.clone()],
    }
}
