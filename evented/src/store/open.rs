//! Opening the store of a URL.

use crate::error::{Act, StoreError};

#[cfg(feature = "mysql")]
use super::mysql;
#[cfg(feature = "postgres")]
use super::postgres;
#[cfg(feature = "redis")]
use super::redis;
#[cfg(feature = "sqlite")]
use super::sqlite;
use super::{Pending, Store, StoreUrl};

/// The queue that is used when nothing says otherwise.
pub(crate) const QUEUE_DEFAULT: &str = "sqlite:evented.db";

/// Opens the queue store of a URL, as [`run().queue(..)`](crate::Run::queue) does: for tests and tools.
///
/// # Errors
/// When the URL is of no kind that this build keeps, or the store cannot be opened or migrated. The URL's secrets are not in
/// the text.
#[must_use]
pub fn open_queue(url: impl Into<StoreUrl>) -> Pending<'static, Store> {
    let url = url.into();
    Box::pin(async move {
        url.check("queue")?;
        let opened: Result<Store, StoreError> = match url.scheme() {
            #[cfg(feature = "sqlite")]
            "sqlite" => sqlite::SqliteStore::open_queue(&url).await,
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => postgres::PostgresStore::open_queue(&url).await,
            #[cfg(feature = "redis")]
            "redis" => redis::RedisStore::open_queue(&url).await,
            _ => Err(no_store(&url, "queue")),
        };
        opened.map_err(|error| error.at(Act::Open("opening the queue"), &url.to_string()))
    })
}

/// Opens the outbox of a URL, for a process that has no pool of its own to give. The database must exist.
///
/// # Errors
/// When the URL is of no kind that this build keeps, or the outbox cannot be opened or migrated. The URL's secrets are not in
/// the text.
#[must_use]
pub fn open_outbox(url: impl Into<StoreUrl>) -> Pending<'static, Store> {
    let url = url.into();
    Box::pin(async move {
        url.check("outbox")?;
        let opened: Result<Store, StoreError> = match url.scheme() {
            #[cfg(feature = "sqlite")]
            "sqlite" => sqlite::SqliteStore::open_outbox_url(&url).await,
            #[cfg(feature = "mysql")]
            "mysql" | "mariadb" => mysql::MySqlStore::open_outbox_url(&url).await,
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => postgres::PostgresStore::open_outbox_url(&url).await,
            _ => Err(no_store(&url, "outbox")),
        };
        opened.map_err(|error| error.at(Act::Open("opening the outbox"), &url.to_string()))
    })
}

/// Whether a queue can be at this URL: nothing is created by asking. Of a server nothing is known before it is asked.
pub(crate) fn exists(url: &StoreUrl) -> bool {
    url.file().is_none_or(std::path::Path::exists)
}

fn no_store(url: &StoreUrl, what: &str) -> StoreError {
    let off = |feature: &str| {
        format!("the {what} `{url}` needs the feature `{feature}` of `evented`, which is off; turn it on in Cargo.toml")
    };
    if let Some(meant) = url.meant() {
        let text = format!("the {what}'s URL begins with a word that no store has; was `{meant}:` meant?");
        return StoreError::lasting(text, crate::error::Written::Nothing);
    }
    let text = match url.scheme() {
        "sqlite" => off("sqlite"),
        "mysql" | "mariadb" if what == "queue" => format!(
            "the queue `{url}` is of MySQL, which keeps the outbox alone; give the pool to `.outbox(pool)`, and name another \
             queue, like `sqlite:queue.db`"
        ),
        "mysql" | "mariadb" => off("mysql"),
        "postgres" | "postgresql" if cfg!(not(feature = "postgres")) => off("postgres"),
        "redis" if what == "queue" => {
            "a queue on redis needs the feature `redis` of `evented`, which is off; turn it on in Cargo.toml".to_owned()
        }
        "rediss" => format!(
            "the {what} `rediss:..` asks for TLS, which is not built in; use `redis://` on a network that you trust, or \
             through a tunnel"
        ),
        "redis" => "redis keeps a queue and no outbox: the outbox is in the application's own database".to_owned(),
        "" => format!(
            "the {what}'s URL `{url}` does not say what it is; write a file as `sqlite:path`, a server as \
             `postgres://user:password@host/database`"
        ),
        _ if what == "queue" => format!(
            "the queue `{url}` is of no kind that this release keeps; write one like `sqlite:queue.db`, \
             `postgres://localhost/shop` or `redis://localhost`"
        ),
        _ => format!(
            "the {what} `{url}` is of no kind that this release keeps; write one like `sqlite:shop.db` or \
             `postgres://localhost/shop`"
        ),
    };
    StoreError::lasting(text, crate::error::Written::Nothing)
}
