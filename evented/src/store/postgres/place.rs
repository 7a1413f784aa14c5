//! Where a store is, and how it is reached: its URL.

use std::str::FromStr;

use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};

use crate::error::{StoreError, Written};

/// A database, as a URL names it.
pub(super) struct Place {
    pub options: PgConnectOptions,
    /// Where it is, without who asks: `postgres:db.internal:5432/shop`.
    pub name: String,
    /// Statements are prepared once for a connection: not with `?statement-cache-capacity=0`.
    pub prepared: bool,
    /// Other processes' changes are listened for: not with `?listen=off`.
    pub listen: bool,
}

impl Place {
    /// The place of the URL of a store, the queue or the outbox. `listen` is ours, the rest is sqlx's.
    pub(super) fn of(what: &str, url: &str) -> Result<Self, StoreError> {
        // Never with the URL itself, which may have a password.
        let refused = |why: String| StoreError::lasting(format!("the {what}'s URL {why}"), Written::Nothing);
        let (base, parameters) = url.split_once('?').unwrap_or((url, ""));
        let (mut listen, mut prepared) = (true, true);
        let mut rest = Vec::new();
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("listen", value)) => {
                    listen = match value {
                        "on" => true,
                        "off" => false,
                        other => return Err(refused(format!("has `listen={other}`; write `on` or `off`"))),
                    };
                    continue;
                }
                Some(("statement-cache-capacity", "0")) => prepared = false,
                _ => {}
            }
            rest.push(parameter);
        }
        let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        let options = PgConnectOptions::from_str(&url).map_err(|error| {
            refused(format!("is not one of Postgres, like `postgres://user@localhost:5432/shop`: {error}"))
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

    fn at(options: PgConnectOptions, prepared: bool, listen: bool) -> Self {
        // No number of ours is a float, and a pooler may not know the setting.
        let options = options.extra_float_digits(None);
        let name = name(&options);
        Self { options, name, prepared, listen }
    }
}

fn name(options: &PgConnectOptions) -> String {
    let host = options.get_socket().map_or_else(|| options.get_host().to_owned(), |path| path.display().to_string());
    // A database that is not named is that of the user's name.
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    format!("postgres:{host}:{}/{database}", options.get_port())
}
