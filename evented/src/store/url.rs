//! Where a store is, as it was written: the one type that holds such a text, and it cannot print what may be secret in it.
//!
//! What is shown is what is known to be harmless; the rest is `..`. Looking for the secret instead would miss it: a password
//! may stand before the host, among the parameters, in the words of libpq, or anywhere once its own `/`, `?`, `#` or `@`
//! was not encoded.

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql", feature = "redis"))]
use std::error::Error as StdError;
use std::{fmt, path::Path, sync::Arc};

use crate::error::{StoreError, Written};

/// A store's URL. `Display` and `Debug` show where the store is, never who asks and with what password.
///
/// ```
/// # use evented::store::StoreUrl;
/// let url = StoreUrl::from("postgres://ada:s3cret@db.internal:5432/shop?sslmode=require&password=s3cret");
/// assert_eq!(url.to_string(), "postgres://..@db.internal:5432/shop?sslmode=require&..");
/// assert_eq!(format!("{url:?}"), format!("\"{url}\""));
/// assert_eq!(StoreUrl::from("host=localhost password=s3cret").to_string(), "..");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(Arc<str>);

/// What stands for what is not shown.
const HIDDEN: &str = "..";

/// Schemes that need no `//` behind them to be one. Before another `:` may stand a user's name, or half of a password.
const SCHEMES: [&str; 11] =
    ["sqlite", "postgres", "postgresql", "mysql", "mariadb", "redis", "rediss", "valkey", "amqp", "nats", "unix"];

/// Parameters whose values are no secrets. All others are hidden with their names: the name may be the rest of a password
/// that has a `?` or `&` in it.
const SHOWN: [&str; 22] = [
    "prefix",
    "synchronous",
    "listen",
    "statement-cache-capacity",
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslca",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "mode",
    "cache",
    "immutable",
    "vfs",
    "charset",
    "collation",
    "socket",
    "timezone",
];

impl StoreUrl {
    /// What it is a URL of, in front of its first `:`; empty where it does not say.
    pub(in crate::store) fn scheme(&self) -> &str {
        match self.0.split_once(':') {
            Some((scheme, rest)) if SCHEMES.contains(&scheme) || (rest.starts_with("//") && is_word(scheme)) => scheme,
            _ => "",
        }
    }

    /// The kind of store that was meant, where what stands in front of the first `:` is one with a slip of the pen.
    pub(in crate::store) fn meant(&self) -> Option<&'static str> {
        let (word, _) = self.0.split_once(':')?;
        let is_slip = !SCHEMES.contains(&word);
        SCHEMES.into_iter().find(|scheme| is_slip && is_near(word, scheme))
    }

    /// The whole text, for the driver alone.
    #[cfg(any(feature = "sqlite", feature = "mysql"))]
    pub(in crate::store) fn reveal(&self) -> &str {
        &self.0
    }

    /// The file of SQLite that it names.
    pub(in crate::store) fn file(&self) -> Option<&Path> {
        let path = self.0.strip_prefix("sqlite:")?;
        let path = path.strip_prefix("//").unwrap_or(path);
        Some(Path::new(path.split_once('?').map_or(path, |(path, _)| path)))
    }

    /// What stands before the parameters, and each of them with its value; as a driver takes them, secrets among them.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "redis"))]
    pub(in crate::store) fn parts(&self) -> (&str, impl Iterator<Item = (&str, &str)>) {
        let (base, parameters) = self.0.split_once('?').unwrap_or((&self.0, ""));
        let parameters = parameters.split('&').filter(|parameter| !parameter.is_empty());
        (base, parameters.map(|parameter| parameter.split_once('=').unwrap_or((parameter, ""))))
    }

    /// The error that it cannot be used so. `what` it is of: the queue or the outbox.
    pub(in crate::store) fn refused(&self, what: &str, why: impl fmt::Display) -> StoreError {
        StoreError::lasting(format!("the {what}'s URL `{self}` {why}"), Written::Nothing)
    }

    /// As [`refused`](Self::refused), for what a driver could not read. Its own words may quote the URL; only those are
    /// said that never do.
    #[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql", feature = "redis"))]
    pub(in crate::store) fn unread(&self, what: &str, why: &str, error: &(dyn StdError + 'static)) -> StoreError {
        match reason(error) {
            Some(reason) => self.refused(what, format_args!("{why}: {reason}")),
            None => self.refused(what, why),
        }
    }

    /// Refuses what no two readers understand alike. A password that is not encoded ends at its first `/`, `?` or `#`, and
    /// the rest of it would be taken for a host, a database or a parameter, and be shown as one. And who writes users, hosts
    /// and passwords behind `sqlite:` did not mean a file of that name.
    pub(in crate::store) fn check(&self, what: &str) -> Result<(), StoreError> {
        let scheme = self.scheme();
        let Some(rest) = self.0[scheme.len()..].strip_prefix(':').filter(|_| !scheme.is_empty()) else { return Ok(()) };
        let (authority, behind) = rest.strip_prefix("//").map_or(("", rest), authority);
        if scheme == "sqlite" {
            let is_drive = authority.len() > 1 && authority.find(':') == Some(1);
            let user = rest.contains('@') && rest.contains(':');
            if user || rest.contains("password=") || (authority.contains(':') && !is_drive) {
                return Err(self.refused(what, "names a user, a host or a password, and SQLite has files alone"));
            }
        } else if !rest.starts_with("//") {
            let why = format!("has no `//` behind `{scheme}:`; write one like `{scheme}://user:password@host`");
            return Err(self.refused(what, why));
        } else if behind.contains('@') {
            return Err(self.refused(
                what,
                "has an `@` behind its first `/`, `?` or `#`; in a password, write `%2F` for `/`, `%3F` for `?`, `%23` for \
                 `#` and `%40` for `@`, elsewhere `%40` for `@`",
            ));
        }
        Ok(())
    }
}

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql", feature = "redis"))]
/// The words of drivers and their parsers that quote nothing.
const REASONS: [&str; 8] = [
    "empty host",
    "invalid port number",
    "invalid international domain name",
    "invalid IPv4 address",
    "invalid IPv6 address",
    "invalid domain character",
    "relative URL without a base",
    "Invalid database number",
];

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql", feature = "redis"))]
fn reason(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        let said = error.to_string();
        if let Some(reason) = REASONS.iter().find(|reason| said.ends_with(*reason)) {
            return Some(reason);
        }
        next = error.source();
    }
    None
}

/// Who and where, and what is behind it.
fn authority(rest: &str) -> (&str, &str) {
    rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()))
}

fn is_word(text: &str) -> bool {
    text.len() <= 16 && text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(is_of("+.-"))
}

/// Whether the two differ by one letter, which is another or missing, or by two that are swapped.
fn is_near(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let before = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let (one, other) = (&one[before..], &other[before..]);
    let behind = one.iter().rev().zip(other.iter().rev()).take_while(|(a, b)| a == b).count();
    let (one, other) = (&one[..one.len() - behind], &other[..other.len() - behind]);
    one.len().max(other.len()) <= 1 || (one.len() == 2 && one.iter().eq(other.iter().rev()))
}

/// Letters, digits, and these.
fn is_of(others: &str) -> impl Fn(char) -> bool {
    move |c| c.is_ascii_alphanumeric() || others.contains(c)
}

/// Hosts and ports: `db.internal:5432`, `[::1]:6379`, `a:1,b:2`, `%2Frun%2Fpostgresql`.
fn is_place(text: &str) -> bool {
    text.split(',').all(|place| {
        let bare = place.replace("%2F", "").replace("%2f", "");
        let (host, port) = match bare.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (bare.as_str(), "0"),
        };
        let is_address = host.starts_with('[') && host.ends_with(']') && host.chars().all(is_of("[]:."));
        let is_name = !host.is_empty() && host.chars().all(is_of("-._"));
        (is_address || is_name) && port.parse::<u16>().is_ok()
    })
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme();
        let (before, parameters) = self.0.split_once('?').unwrap_or((&self.0, ""));
        if scheme.is_empty() {
            // Perhaps a path. What does not look like a file of a database may be anything.
            let is_file = [".db", ".sqlite", ".sqlite3"].iter().any(|end| before.ends_with(end));
            let shown = if is_file && before.chars().all(is_of("-._/\\")) { before } else { HIDDEN };
            return f.write_str(shown);
        }
        let rest = &before[scheme.len() + 1..];
        write!(f, "{scheme}:")?;
        if scheme == "sqlite" {
            // A path, if it can be one: `=`, `@` and `:` come with users, hosts and passwords.
            let is_path = rest == ":memory:" || !(rest.contains(['=', ':', '#']) || self.0.contains('@'));
            if !is_path {
                return f.write_str(HIDDEN);
            }
            f.write_str(rest)?;
        } else {
            let Some(rest) = rest.strip_prefix("//") else { return f.write_str(HIDDEN) };
            let (authority, path) = authority(rest);
            let behind = &self.0[before.len()..];
            let (user, place) =
                authority.rsplit_once('@').map_or((None, authority), |(user, place)| (Some(user), place));
            let is_place = is_place(place) || (place.is_empty() && user.is_none() && path.starts_with('/'));
            if !is_place || path.contains('@') || behind.contains('@') {
                return write!(f, "//{HIDDEN}");
            }
            let user = if user.is_some() { "..@" } else { "" };
            let is_path = path.chars().all(is_of("-._/"));
            write!(f, "//{user}{place}{}", if is_path { path } else { HIDDEN })?;
            if !is_path {
                return Ok(());
            }
        }
        let mut between = '?';
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            let shown = parameter
                .split_once('=')
                .is_some_and(|(name, value)| SHOWN.contains(&name) && value.chars().all(is_of("-._/:")));
            write!(f, "{between}{}", if shown { parameter } else { HIDDEN })?;
            if !shown {
                // What follows a secret may be the rest of it.
                break;
            }
            between = '&';
        }
        Ok(())
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl From<&str> for StoreUrl {
    fn from(url: &str) -> Self {
        Self(url.into())
    }
}

impl From<String> for StoreUrl {
    fn from(url: String) -> Self {
        Self(url.into())
    }
}

impl From<&String> for StoreUrl {
    fn from(url: &String) -> Self {
        Self(url.as_str().into())
    }
}
