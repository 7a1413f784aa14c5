//! A handler's route: where it runs, and what the route's own list may say.

use std::ops::RangeInclusive;

use proc_macro2::TokenStream;
use quote::ToTokens;

use crate::{
    args::{self, Arg, Errors},
    forms::{DAY, duration, is_constant, is_name, misshapen, number, suggestion, unnamable},
    options::{COMMON, List},
    terms::{self, Terms},
};

/// Where a handler runs.
pub enum Route {
    InProcess,
    InTransaction,
    Background(Stored),
    Outbox(Stored),
}

/// The options of a stored route; what is absent has evented's default. Durations are milliseconds.
#[derive(Default)]
pub struct Stored {
    pub queue: Option<String>,
    pub retries: Option<u32>,
    pub backoff: Option<Backoff>,
    pub timeout: Option<u64>,
    pub terms: Terms,
}

/// `backoff(..)`
pub enum Backoff {
    Doubling { first: u64, max: u64 },
    Fixed(u64),
}

pub const ROUTES: &[&str] = &["in_process", "background", "outbox"];
pub const STORED: &[&str] =
    &["queue", "retries", "backoff", "timeout", "priority", "concurrency", "unique", "ordered_by"];

const HOUR: u64 = 3_600_000;
const TIMEOUTS: RangeInclusive<u64> = 1..=7 * DAY;
/// A wait beyond a year is a slip of the pen, and stores add waits to their clocks.
const WAITS: RangeInclusive<u64> = 0..=365 * DAY;

impl Route {
    /// `None` where it is not known what is meant.
    pub fn read(name: &str, arg: &Arg, errors: &mut Errors) -> Option<Self> {
        let options = match arg {
            Arg::Word(_) => &[][..],
            Arg::List(_, options) => options,
            Arg::Value(..) | Arg::Bare(_) => {
                misshapen(name, arg, errors);
                return None;
            }
        };
        match name {
            "in_process" => Self::read_in_process(options, errors),
            "background" => Some(Self::Background(Stored::read("background", options, errors))),
            _ => Some(Self::Outbox(Stored::read("outbox", options, errors))),
        }
    }

    fn read_in_process(options: &[Arg], errors: &mut Errors) -> Option<Self> {
        let elsewhere = |option: &str, arg: &Arg| match option {
            _ if STORED.contains(&option) => Some(no_effect_in_process(option, arg)),
            _ => of_the_handler("in_process", option, arg),
        };
        let list = List { title: "in_process(..)", known: &["in_transaction"], elsewhere: &elsewhere };
        let errors_before = errors.count();
        let options = list.options(options, errors);
        match options.as_slice() {
            [] => (errors.count() == errors_before).then_some(Self::InProcess),
            [(_, Arg::Word(_)), ..] => Some(Self::InTransaction),
            [(name, arg), ..] => {
                misshapen(name, arg, errors);
                None
            }
        }
    }
}

pub fn no_effect_in_process(option: &str, arg: &Arg) -> String {
    let help = format!("to have a worker run the handler, write `background({})`", suggestion(arg));
    format!("`{option}` has no effect on an in-process handler\n\n= help: {help}")
}

fn of_the_handler(route: &str, option: &str, arg: &Arg) -> Option<String> {
    let help = format!("move it out: `#[handler(.., {route}, {})]`", suggestion(arg));
    let text = format!("`{option}` is an option of the handler, not of its route\n\n= help: {help}");
    COMMON.contains(&option).then_some(text)
}

impl Stored {
    fn read(route: &str, options: &[Arg], errors: &mut Errors) -> Self {
        let elsewhere = |option: &str, arg: &Arg| match option {
            "in_transaction" => {
                Some(format!("`{option}` is an option of `in_process`\n\n= help: write `in_process({option})`"))
            }
            "max" | "fixed" => {
                let help = if option == "max" { "backoff(\"1s\", max = \"1h\")" } else { "backoff(fixed = \"10s\")" };
                Some(format!("`{option}` is an option of `backoff`\n\n= help: move it inside: `{help}`"))
            }
            "key" | "within" => Some(terms::outside_unique(option, options)),
            _ => of_the_handler(route, option, arg),
        };
        let list = List { title: &format!("{route}(..)"), known: STORED, elsewhere: &elsewhere };
        // Who forgot `unique` forgot it once.
        let options = list.options(terms::with_one_outside_unique(options), errors);
        terms::exclude(&options, errors);
        let mut stored = Self::default();
        for (name, arg) in options {
            match (name.as_str(), arg) {
                ("queue", Arg::Value(_, value)) => match args::string(value) {
                    Some(queue) if is_name(&queue.text) => stored.queue = Some(queue.text),
                    Some(queue) => errors.on(queue.span, unnamable("the name of a queue", &queue.text)),
                    None if is_constant(&name, value, errors) => {}
                    None => misshapen(&name, arg, errors),
                },
                ("retries", Arg::Value(_, value)) => stored.retries = number("retries", value, 0..=1000, errors),
                ("timeout", Arg::Value(_, value)) => stored.timeout = duration("timeout", value, TIMEOUTS, errors),
                ("backoff", Arg::List(_, waits)) => stored.backoff = Backoff::read(arg, waits, errors),
                ("queue" | "retries" | "timeout" | "backoff", _) => misshapen(&name, arg, errors),
                _ => stored.terms.read(route, &name, arg, errors),
            }
        }
        stored
    }
}

impl Backoff {
    fn read(backoff: &Arg, waits: &[Arg], errors: &mut Errors) -> Option<Self> {
        let name_of = |wait: &Arg| wait.name().map(ToString::to_string);
        for wait in waits {
            match (name_of(wait).as_deref(), wait) {
                // A word may be meant as a constant, a name with a value is an option.
                (Some("max" | "fixed"), Arg::Value(_, value)) if !value.is_empty() => {}
                (Some(name @ ("max" | "fixed")), _) => {
                    misshapen(name, wait, errors);
                    return None;
                }
                (Some(name), Arg::Value(..) | Arg::List(..)) => {
                    let known = "= note: known options are `max`, `fixed`";
                    let meant = args::nearest(name, &["max", "fixed"]);
                    let meant = meant.map(|meant| format!("= help: did you mean `{meant}`?\n")).unwrap_or_default();
                    errors.at(wait, format!("unknown option in `backoff(..)`: `{name}`\n\n{meant}{known}"));
                    return None;
                }
                _ => {}
            }
        }
        match waits {
            [first @ (Arg::Bare(_) | Arg::Word(_))] => {
                let first = duration("backoff", &first.to_token_stream(), WAITS, errors)?;
                Some(Self::Doubling { first, max: first.max(HOUR) })
            }
            [first @ (Arg::Bare(_) | Arg::Word(_)), wait @ Arg::Value(_, max)]
                if name_of(wait).as_deref() == Some("max") =>
            {
                let first = duration("backoff", &first.to_token_stream(), WAITS, errors);
                let (max, first) = (duration("max", max, WAITS, errors)?, first?);
                if first > max {
                    let [first, max] = [waits[0].to_token_stream(), wait_value(wait)].map(|wait| wait.to_string());
                    let why =
                        format!("`max` is `{max}`, and the first wait is `{first}`: it is the longest wait of all");
                    errors.at(wait, format!("{why}\n\n= help: write `backoff({max}, max = {first})`"));
                    return None;
                }
                Some(Self::Doubling { first, max })
            }
            [wait @ Arg::Value(_, fixed)] if name_of(wait).as_deref() == Some("fixed") => {
                Some(Self::Fixed(duration("fixed", fixed, WAITS, errors)?))
            }
            // Two ways to wait, an option that is none, or nothing: the two forms say it all.
            _ => {
                misshapen("backoff", backoff, errors);
                None
            }
        }
    }
}

fn wait_value(wait: &Arg) -> TokenStream {
    match wait {
        Arg::Value(_, value) => value.clone(),
        wait => wait.to_token_stream(),
    }
}
