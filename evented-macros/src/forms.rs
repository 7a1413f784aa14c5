//! How options are written: what to say of one that is written in another form, and the values that they take.

use std::ops::RangeInclusive;

use proc_macro2::TokenStream;

use crate::args::{self, Arg, Errors};

pub const DAY: u64 = 24 * 3_600_000;

/// The option is known, and not written as it should be.
pub fn misshapen(name: &str, at: &Arg, errors: &mut Errors) {
    let form = match name {
        "in_process" => "`in_process` or `in_process(in_transaction)`".to_owned(),
        "background" | "outbox" => {
            let value = match at {
                Arg::Value(_, value) => args::string(value).filter(|queue| is_name(&queue.text)),
                _ => None,
            };
            let queue = value.map_or_else(|| "..".to_owned(), |queue| queue.text);
            format!(r#"`{name}` or `{name}(queue = "{queue}")`"#)
        }
        "backoff" => r#"`backoff("1s", max = "1h")` or `backoff(fixed = "10s")`"#.to_owned(),
        _ => match (form(name), at) {
            (None, _) => return errors.at(at, format!("`{name}` takes no value\n\n= help: write `{name}` alone")),
            // A name, or a number, without its quotes.
            (Some(form), Arg::Value(_, value)) if form.ends_with(r#" = "..""#) && !value.is_empty() => {
                let bare = value.to_string();
                let example = if is_name(&bare) { form.replace("..", &bare) } else { form.to_owned() };
                return errors.at(value, format!("`{name}` takes a text in quotes\n\n= help: write `{example}`"));
            }
            (Some(form), _) => format!("`{form}`"),
        },
    };
    errors.at(at, format!("`{name}` is written {form}"));
}

/// The number of a literal such as `8`.
pub fn number(name: &str, value: &TokenStream, limits: RangeInclusive<u32>, errors: &mut Errors) -> Option<u32> {
    let in_limits = |number: &u32| limits.contains(number);
    let quoted = args::string(value).and_then(|text| text.text.parse().ok());
    if let Some(number) = args::integer(value).filter(in_limits) {
        return Some(number);
    } else if let Some(number) = quoted.filter(in_limits) {
        errors.at(value, format!("`{name}` takes a number without quotes: write `{name} = {number}`"));
    } else if let Some(number) = args::suffixed(value).filter(in_limits) {
        errors.at(value, format!("`{name}` takes a number without a suffix: write `{name} = {number}`"));
    } else if !is_constant(name, value, errors) {
        errors.at(value, format!("`{name}` must be an integer from {} to {}", limits.start(), limits.end()));
    }
    None
}

/// The milliseconds of a literal such as `"30s"`.
pub fn duration(name: &str, value: &TokenStream, limits: RangeInclusive<u64>, errors: &mut Errors) -> Option<u64> {
    let Some(text) = args::string(value) else {
        if !is_constant(name, value, errors) {
            let bare = value.to_string();
            let number = !bare.is_empty() && bare.chars().all(|c| c.is_ascii_digit());
            let text = if number {
                let help = format!("did you mean `\"{bare}s\"` (seconds) or `\"{bare}ms\"` (milliseconds)?");
                format!("`{name}` takes a duration in quotes, with its unit\n\n= help: {help}")
            } else {
                let example = if args::millis(&bare).is_ok() { &bare } else { "30s" };
                format!("`{name}` takes a duration in quotes, like `\"{example}\"`")
            };
            errors.at(value, text);
        }
        return None;
    };
    match args::millis(&text.text) {
        Err(problem) => errors.on(text.span, problem),
        Ok(millis) if millis < *limits.start() => errors.on(text.span, format!("`{name}` must be more than zero")),
        Ok(millis) if millis > *limits.end() => {
            let why = if name == "within" { ": stores remember no longer" } else { "" };
            errors.on(text.span, format!("`{name}` must be at most `\"{}d\"`{why}", limits.end() / DAY));
        }
        Ok(millis) => return Some(millis),
    }
    None
}

/// True, and a mistake, where a path stands for the option's literal.
pub fn is_constant(name: &str, value: &TokenStream, errors: &mut Errors) -> bool {
    // One word in small letters is a value without its quotes rather.
    let is_word = |value: &TokenStream| value.to_string().chars().all(|c| c.is_lowercase() || c.is_ascii_digit());
    let constant = args::is_path(value) && !is_word(value);
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
        "version" => "version = 2",
        "from" => "from(OrderPlacedV1)",
        "queue" => r#"queue = "..""#,
        "retries" => "retries = 8",
        "timeout" => r#"timeout = "30s""#,
        "backoff" => r#"backoff("1s", max = "1h")"#,
        "priority" => r#"priority = "high""#,
        "concurrency" => "concurrency = 4",
        "unique" => r#"unique(key = "order_id", within = "10m")"#,
        "ordered_by" => r#"ordered_by = "..""#,
        "max" => r#"max = "1h""#,
        "fixed" => r#"fixed = "10s""#,
        "key" => r#"key = "..""#,
        "within" => r#"within = "10m""#,
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
    let foreign = text.chars().find(|c| !is_name(c.encode_utf8(&mut [0; 4])));
    let why = match foreign {
        Some(foreign) => format!(": {foreign:?} is not allowed in it"),
        None if text.is_empty() => ": it is empty".to_owned(),
        None => format!(": it has {} characters", text.len()),
    };
    format!("{what} cannot be `{text:?}`{why}\n\n= help: use 1 to 100 ASCII letters, digits, `_`, `.` and `-`")
}
