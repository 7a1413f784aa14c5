//! Where a store is, and how it is reached: its URL.

use std::{
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering},
};

use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};

use crate::{error::StoreError, store::StoreUrl};

/// The parameters that sqlx takes.
const TAKEN: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// A database, as a URL names it.
pub(super) struct Place {
    pub options: PgConnectOptions,
    /// Where it is, without who asks: `postgres:db.internal:5432/shop`.
    pub name: String,
    /// Statements are prepared once for a connection: not with `?statement-cache-capacity=0`.
    pub prepared: bool,
    /// Other processes' changes are listened for: not with `?listen=off`.
    pub listen: bool,
    /// Row security is active for us on our tables, and hides nothing from us: `schema.rs` has looked.
    pub row_security: AtomicBool,
}

impl Place {
    /// The place of the URL of a store, the queue or the outbox. `listen` is ours, the rest is sqlx's.
    pub(super) fn of(what: &str, url: &StoreUrl) -> Result<Self, StoreError> {
        let (base, parameters) = url.parts();
        let (mut listen, mut prepared) = (true, true);
        let mut rest = Vec::new();
        for (name, value) in parameters {
            match (name, value) {
                ("listen", "on") => listen = true,
                ("listen", "off") => listen = false,
                ("listen", _) => return Err(url.refused(what, "has another `listen=..` than `on` or `off`")),
                _ if TAKEN.contains(&name) || name.starts_with("options[") => {
                    prepared &= (name, value) != ("statement-cache-capacity", "0");
                    rest.push(format!("{name}={value}"));
                }
                // Not for sqlx either, which logs what it does not know with its value.
                _ => tracing::warn!(%url, "the {what}'s URL has a parameter that is not known, and is not heeded"),
            }
        }
        let whole = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        let options = PgConnectOptions::from_str(&whole).map_err(|error| {
            url.unread(what, "is not one of Postgres, like `postgres://user@localhost:5432/shop`", &error)
        })?;
        Ok(Self::at(options, prepared, listen))
    }

    /// The place of an application's pool. A pool that keeps no prepared statements is taken for one behind a pooler, where
    /// nothing can be listened for.
    pub(super) fn of_pool(options: &PgConnectOptions) -> Self {
        let prepared = !options
            .to_url_lossy()
            .query_pairs()
            .any(|(name, value)| name == "statement-cache-capacity" && value == "0");
        Self::at(options.clone(), prepared, prepared)
    }

    /// What row security would hide from us is an error instead, unless it is known to hide nothing.
    pub(super) fn row_security(&self) -> &'static str {
        if self.row_security.load(Ordering::Relaxed) { "on" } else { "off" }
    }

    fn at(options: PgConnectOptions, prepared: bool, listen: bool) -> Self {
        // No number of ours is a float, and a pooler may not know the setting.
        let options = options.extra_float_digits(None);
        let name = name(&options);
        Self { options, name, prepared, listen, row_security: AtomicBool::new(false) }
    }
}

fn name(options: &PgConnectOptions) -> String {
    let host = options.get_socket().map_or_else(|| options.get_host().to_owned(), |path| path.display().to_string());
    // A database that is not named is that of the user's name.
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    format!("postgres:{host}:{}/{database}", options.get_port())
}
