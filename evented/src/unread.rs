//! Why a payload could not be read, without what stands in it: the text goes to logs and dead letters, and payloads do not.

use std::{error::Error as StdError, fmt};

use serde_json::error::Category;

/// A decoder's error, with its place and what was expected there. What was found is left out, and so are words of the type's
/// own `Deserialize`, which may quote it.
#[derive(Debug)]
pub(crate) struct Unread(String);

impl Unread {
    pub(crate) fn of(error: &serde_json::Error) -> Self {
        let what = match error.classify() {
            Category::Data => expected(&error.to_string()),
            Category::Syntax => "it is not JSON".to_owned(),
            Category::Eof => "it ends too early".to_owned(),
            Category::Io => "it could not be read".to_owned(),
        };
        // What was read through a value in between has no place.
        let place = match error.line() {
            0 => String::new(),
            line => format!(" at line {line} column {}", error.column()),
        };
        Self(what + &place)
    }
}

/// What serde's own sentences say of the type. A name that comes from the payload is none of it.
fn expected(said: &str) -> String {
    let own = ["missing field `", "duplicate field `"].iter().any(|begin| said.starts_with(begin));
    if own && let Some(end) = said.match_indices('`').nth(1) {
        return said[..=end.0].to_owned();
    }
    let found = ["invalid type", "invalid value", "invalid length", "unknown variant", "unknown field"];
    let Some(found) =
        found.iter().find(|found| said.strip_prefix(**found).is_some_and(|said| said.starts_with([':', ' '])))
    else {
        return "its type refused it".to_owned();
    };
    // The last one is serde's: a value may have such words in it.
    let expected = said.rsplit_once(", expected ").map(|(_, expected)| expected);
    let expected =
        expected.map(|expected| expected.rsplit_once(" at line ").map_or(expected, |(expected, _)| expected));
    match expected {
        Some(expected) => format!("{found}, expected {expected}"),
        None => (*found).to_owned(),
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Unread {}
