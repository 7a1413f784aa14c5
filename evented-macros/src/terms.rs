//! On what terms a handler's deliveries are taken: the options of a stored route whose values are words and fields.

use std::ops::RangeInclusive;

use proc_macro2::{Ident, Span, TokenStream};

use crate::{
    args::{self, Arg, Errors},
    forms::{DAY, duration, is_constant, misshapen, number, suggestion},
    options::{COMMON, List},
    route::STORED,
};

/// What is absent has evented's default. Durations are milliseconds.
#[derive(Default)]
pub struct Terms {
    pub priority: Option<Priority>,
    pub concurrency: Option<u32>,
    pub unique: Option<Unique>,
    pub ordered_by: Option<Field>,
}

/// `priority = ".."`
#[derive(Clone, Copy)]
pub enum Priority {
    High,
    Normal,
    Low,
}

/// `unique(..)`
pub struct Unique {
    pub key: Field,
    pub within: u64,
}

/// A field of the event, and the literal that names it.
pub struct Field {
    /// Without `r#`, as payloads have it.
    pub name: String,
    pub span: Span,
}

pub const UNIQUE: &[&str] = &["key", "within"];

/// By the words that say them.
const PRIORITIES: &[(&str, Priority)] =
    &[("high", Priority::High), ("normal", Priority::Normal), ("low", Priority::Low)];
/// A queue of one process has fewer slots than that.
const CONCURRENCIES: RangeInclusive<u32> = 1..=1000;
/// Stores remember no longer.
const WITHIN: RangeInclusive<u64> = 1..=7 * DAY;

impl Terms {
    /// Reads one of the options.
    pub fn read(&mut self, route: &str, name: &str, arg: &Arg, errors: &mut Errors) {
        match (name, arg) {
            ("priority", Arg::Value(_, value)) => self.priority = Priority::read(value, errors),
            ("concurrency", Arg::Value(_, value)) => self.concurrency = number(name, value, CONCURRENCIES, errors),
            ("unique", Arg::List(_, options)) => self.unique = Unique::read(route, arg, options, errors),
            ("ordered_by", Arg::Value(_, value)) => self.ordered_by = Field::read(name, value, errors),
            _ => misshapen(name, arg, errors),
        }
    }

    /// The fields that are keys.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        self.unique.iter().map(|unique| &unique.key).chain(&self.ordered_by)
    }
}

/// What to say of `key` or `within` among a route's options.
pub fn outside_unique(option: &str, options: &[Arg]) -> String {
    let [key, within] = [("key", "key = \"..\""), ("within", "within = \"10m\"")]
        .map(|(name, form)| options.iter().find(|arg| is(arg, name)).map_or_else(|| form.to_owned(), suggestion));
    format!("`{option}` is an option of `unique`\n\n= help: move it inside: `unique({key}, {within})`")
}

/// A route's options without `within`, where what is said of `key` says it too.
pub fn with_one_outside_unique(options: &[Arg]) -> impl Iterator<Item = &Arg> {
    let has_key = options.iter().any(|arg| is(arg, "key"));
    options.iter().filter(move |arg| !(has_key && is(arg, "within")))
}

fn is(arg: &Arg, name: &str) -> bool {
    arg.name().is_some_and(|given| given == name)
}

/// Those of a route's options that exclude each other.
pub fn exclude(options: &[(String, &Arg)], errors: &mut Errors) {
    let given = |name: &str| options.iter().find(|(given, _)| given == name).and_then(|(_, arg)| arg.name());
    if let (Some(priority), Some(_)) = (given("priority"), given("ordered_by")) {
        let help = "= help: remove one of the two";
        errors
            .at(priority, format!("`priority` conflicts with `ordered_by`: the order decides what is next\n\n{help}"));
    }
}

impl Priority {
    fn read(value: &TokenStream, errors: &mut Errors) -> Option<Self> {
        let words: Vec<_> = PRIORITIES.iter().map(|(word, _)| *word).collect();
        let known = format!("`\"{}\"`", words.join("\"`, `\""));
        if let Some(text) = args::string(value) {
            let found = PRIORITIES.iter().find(|(word, _)| *word == text.text);
            if found.is_none() {
                let meant = args::nearest(&text.text.to_lowercase(), &words);
                let meant = meant.map(|meant| format!("= help: did you mean `\"{meant}\"`?\n")).unwrap_or_default();
                let known = format!("= note: known priorities are {known}");
                errors.on(text.span, format!("unknown priority: `{:?}`\n\n{meant}{known}", text.text));
            }
            return found.map(|(_, priority)| *priority);
        }
        // `high`, and also `Priority::High`.
        let written = value.to_string();
        let last = written.rsplit("::").next().unwrap_or_default().trim().to_lowercase();
        if words.contains(&&*last) {
            errors.at(value, format!("`priority` takes a word in quotes\n\n= help: write `priority = \"{last}\"`"));
        } else if !is_constant("priority", value, errors) {
            errors.at(value, format!("`priority` takes one of the words {known}"));
        }
        None
    }
}

impl Unique {
    fn read(route: &str, unique: &Arg, options: &[Arg], errors: &mut Errors) -> Option<Self> {
        // A field alone, or both values without their names.
        let is_value = |arg: &Arg| match arg {
            Arg::Word(name) => !UNIQUE.contains(&&*name.to_string()),
            Arg::Bare(value) => args::string(value).is_some(),
            Arg::Value(..) | Arg::List(..) => false,
        };
        if options.is_empty() || options.iter().any(is_value) {
            misshapen("unique", unique, errors);
            return None;
        }
        let elsewhere = |option: &str, arg: &Arg| {
            let (owner, help) = if STORED.contains(&option) {
                ("the route", format!("{route}(.., {})", suggestion(arg)))
            } else if COMMON.contains(&option) {
                ("the handler", format!("#[handler(.., {route}(..), {})]", suggestion(arg)))
            } else {
                return None;
            };
            Some(format!("`{option}` is an option of {owner}, not of `unique`\n\n= help: move it out: `{help}`"))
        };
        let list = List { title: "unique(..)", known: UNIQUE, elsewhere: &elsewhere };
        let errors_before = errors.count();
        let options = list.options(options, errors);
        // One that is not known may be the missing one, misspelt.
        let all_known = errors.count() == errors_before;
        let (mut key, mut within) = (None, None);
        for (name, arg) in &options {
            match (name.as_str(), arg) {
                ("key", Arg::Value(_, value)) => key = Field::read(name, value, errors),
                ("within", Arg::Value(_, value)) => within = duration(name, value, WITHIN, errors),
                _ => misshapen(name, arg, errors),
            }
        }
        if let ([(name, given)], true) = (options.as_slice(), all_known) {
            let given = suggestion(given);
            let (missing, help) = match name.as_str() {
                "key" => {
                    ("`within`: how long the first event stands for the others", format!("{given}, within = \"10m\""))
                }
                _ => ("`key`: the field by which two events are the same", format!("key = \"..\", {given}")),
            };
            errors.at(unique, format!("`unique` needs {missing}\n\n= help: write `unique({help})`"));
        }
        Some(Self { key: key?, within: within? })
    }
}

impl Field {
    fn read(option: &str, value: &TokenStream, errors: &mut Errors) -> Option<Self> {
        let Some(literal) = args::string(value) else {
            let bare = value.to_string();
            let is_name = is_field(&bare) && !bare.contains(char::is_uppercase);
            if is_name || !is_constant(option, value, errors) {
                let example = if is_name { &bare } else { ".." };
                let help = format!("= help: write `{option} = \"{example}\"`");
                errors.at(value, format!("`{option}` takes the name of a field, in quotes\n\n{help}"));
            }
            return None;
        };
        let name = literal.text.strip_prefix("r#").unwrap_or(&literal.text);
        if is_field(name) {
            return Some(Self { name: name.to_owned(), span: literal.span });
        }
        let written = format!("`{:?}`", literal.text);
        let as_declared = || "write the field's name as the event declares it".to_owned();
        let joined = name.replace('.', "_");
        let (why, help) = if name.is_empty() {
            ("is empty".to_owned(), as_declared())
        } else if name.chars().all(|c| c.is_ascii_digit()) {
            (format!("{written} is a place in a tuple"), "give the event fields with names".to_owned())
        } else if name.contains(',') {
            (format!("{written} is a list"), "give the event a field of its own for them".to_owned())
        } else if joined != name && is_field(&joined) {
            let help = format!("give the event a field of its own for it, such as `{joined}`");
            (format!("{written} is a path"), help)
        } else {
            (format!("{written} is no name"), as_declared())
        };
        errors.on(literal.span, format!("`{option}` names one field of the event, and {why}\n\n= help: {help}"));
        None
    }

    /// As code names it. A keyword needs the `r#`, and no other name is changed by it.
    pub fn ident(&self) -> Ident {
        Ident::new_raw(&self.name, self.span)
    }
}

/// Whether the text can be a field's name, with `r#` before it where it is a keyword.
fn is_field(text: &str) -> bool {
    let is_word = text.chars().all(|c| c.is_alphabetic() || c.is_ascii_digit() || c == '_');
    is_word
        && !text.is_empty()
        && !text.starts_with(|first: char| first.is_ascii_digit())
        && !["_", "self", "Self", "super", "crate"].contains(&text)
}
