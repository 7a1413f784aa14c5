//! Where a measuring program keeps its stores: a folder, or a private server, in which it makes one new store after the
//! other.

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::bail;

use crate::{
    Place,
    servers::{Postgres, Redis, Settings},
};

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A file.
    Sqlite,
    /// A database of a server.
    Postgres,
    /// A numbered database of a server.
    Redis,
}

impl Engine {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sqlite, Self::Postgres, Self::Redis];

    /// Its name on the command line and in the lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Engine {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        match Self::ALL.into_iter().find(|engine| engine.name() == name) {
            Some(engine) => Ok(engine),
            None => bail!("`{name}` is no store; there are `sqlite`, `postgres` and `redis`"),
        }
    }
}

/// When a redis with an append-only file writes it to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aof {
    /// Before it answers.
    Always,
    /// Each second, as redis does unless told otherwise: what it answered in the last two may be lost with it.
    Everysec,
}

impl Aof {
    /// Its name in `redis.conf`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Everysec => "everysec",
        }
    }
}

impl FromStr for Aof {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        match [Self::Always, Self::Everysec].into_iter().find(|aof| aof.name() == name) {
            Some(aof) => Ok(aof),
            None => bail!("`{name}` is no `appendfsync` of ours; there are `always` and `everysec`"),
        }
    }
}

/// The ground of one engine.
pub struct Ground {
    kind: Kind,
    made: AtomicUsize,
}

enum Kind {
    Sqlite(Place),
    Postgres(Postgres),
    Redis(Redis, Aof),
}

impl Ground {
    /// A new folder, or a private server with these further settings; `None` where none is installed.
    ///
    /// Each store of it is as durable as the engine makes one: SQLite's `synchronous` is full, a postgres has `fsync` on, a
    /// redis has an append-only file.
    pub fn start(engine: Engine, aof: Aof, settings: Settings) -> Option<Self> {
        let kind = match engine {
            Engine::Sqlite => Kind::Sqlite(Place::new()),
            Engine::Postgres => Kind::Postgres(Postgres::start(settings)?),
            Engine::Redis => {
                let own = [("appendonly", "yes"), ("appendfsync", aof.name()), ("databases", "1000")];
                Kind::Redis(Redis::start(&[&own, settings].concat())?, aof)
            }
        };
        Some(Self { kind, made: AtomicUsize::new(0) })
    }

    /// Which engine it is of.
    pub fn engine(&self) -> Engine {
        match self.kind {
            Kind::Sqlite(_) => Engine::Sqlite,
            Kind::Postgres(_) => Engine::Postgres,
            Kind::Redis(..) => Engine::Redis,
        }
    }

    /// What makes a commit durable here, in the engine's words.
    pub fn durability(&self) -> String {
        match &self.kind {
            Kind::Sqlite(_) => "synchronous=full".to_owned(),
            Kind::Postgres(_) => "fsync=on".to_owned(),
            Kind::Redis(_, aof) => format!("appendfsync={}", aof.name()),
        }
    }

    /// The URL of a new, empty store.
    pub fn store(&self) -> String {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        match &self.kind {
            Kind::Sqlite(place) => format!("sqlite:{}", place.path(&format!("queue-{number}.db")).display()),
            Kind::Postgres(postgres) => postgres.database(),
            Kind::Redis(redis, _) => format!("{}/{number}", redis.url()),
        }
    }

    /// The postgres, where it is one.
    pub fn postgres(&self) -> Option<&Postgres> {
        if let Kind::Postgres(postgres) = &self.kind { Some(postgres) } else { None }
    }

    /// The redis, where it is one.
    pub fn redis(&self) -> Option<&Redis> {
        if let Kind::Redis(redis, _) = &self.kind { Some(redis) } else { None }
    }

    /// The server's port, where there is a server.
    pub fn port(&self) -> Option<u16> {
        match &self.kind {
            Kind::Sqlite(_) => None,
            Kind::Postgres(postgres) => Some(postgres.port()),
            Kind::Redis(redis, _) => Some(redis.port()),
        }
    }

    /// Kills the server with SIGKILL, and starts it again.
    pub fn crash(&mut self) {
        match &mut self.kind {
            Kind::Sqlite(_) => {}
            Kind::Postgres(postgres) => postgres.restart(),
            Kind::Redis(redis, _) => redis.restart(),
        }
    }

    /// Stops the server's processes.
    pub fn stop(&mut self) {
        match &mut self.kind {
            Kind::Sqlite(_) => {}
            Kind::Postgres(postgres) => postgres.stop(),
            Kind::Redis(redis, _) => redis.stop(),
        }
    }

    /// Lets the server's processes go on.
    pub fn cont(&mut self) {
        match &mut self.kind {
            Kind::Sqlite(_) => {}
            Kind::Postgres(postgres) => postgres.cont(),
            Kind::Redis(redis, _) => redis.cont(),
        }
    }
}

/// The path of a SQLite store of [`Ground::store`].
pub fn sqlite_path(url: &str) -> &str {
    url.strip_prefix("sqlite:").unwrap_or(url)
}
