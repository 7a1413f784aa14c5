//! The raw loops: what a hand would write for one engine, on the very tables that evented made, without a framework.
//!
//! They are as fast as the engine lets one be who keeps evented's promises: a claim takes 500 due deliveries with what their
//! handlers need, and a settlement of those 500 checks each lease's token and counts for the handler. Handlers that do nothing
//! cost nothing here.

mod postgres;
mod redis;
mod sqlite;

use std::time::Duration;

use evented_tests::ground::Engine;

/// How many deliveries are a batch.
pub const BATCH: usize = 500;
/// How long a lease is.
pub const LEASE: Duration = Duration::from_secs(30);

/// What a loop did, and in which time.
pub struct Worked {
    pub deliveries: u64,
    pub payload_bytes: u64,
    pub took: Duration,
}

/// Claims and settles all that waits, on so many connections.
///
/// Where it is `merged`, the settlement of one batch and the claim of the next are one commit, and where the engine is a
/// server, one round trip; otherwise each has its own.
pub async fn drain(engine: Engine, url: &str, connections: usize, merged: bool) -> anyhow::Result<Worked> {
    match engine {
        Engine::Sqlite => sqlite::drain(url, connections, merged).await,
        Engine::Postgres => postgres::drain(url, connections, merged).await,
        Engine::Redis => redis::drain(url, connections, merged).await,
    }
}

/// Inserts in batches on one connection, for so long.
pub async fn enqueue(engine: Engine, url: &str, seconds: Duration) -> anyhow::Result<Worked> {
    match engine {
        Engine::Sqlite => sqlite::enqueue(url, seconds).await,
        Engine::Postgres => postgres::enqueue(url, seconds).await,
        Engine::Redis => redis::enqueue(url, seconds).await,
    }
}

/// A connection on which single inserts are committed.
pub enum Commits {
    Sqlite(sqlite::Commits),
    Postgres(postgres::Commits),
    Redis(redis::Commits),
}

impl Commits {
    pub async fn open(engine: Engine, url: &str) -> anyhow::Result<Self> {
        match engine {
            Engine::Sqlite => sqlite::Commits::open(url).await.map(Self::Sqlite),
            Engine::Postgres => postgres::Commits::open(url).await.map(Self::Postgres),
            Engine::Redis => redis::Commits::open(url).await.map(Self::Redis),
        }
    }

    /// How long each of `count` inserts took to be committed, one each `period`.
    pub async fn measure(&mut self, count: u32, period: Duration) -> anyhow::Result<Vec<Duration>> {
        match self {
            Self::Sqlite(commits) => commits.measure(count, period).await,
            Self::Postgres(commits) => commits.measure(count, period).await,
            Self::Redis(commits) => commits.measure(count, period).await,
        }
    }
}

/// Ids for rows, spread as evented's are: an id follows from a hash, so its place in an index is anywhere.
pub struct Ids(u64);

impl Ids {
    pub fn new() -> Self {
        Self(0)
    }

    /// The delivery's id and the event's, which grows.
    pub fn next(&mut self) -> ([u8; 16], [u8; 16]) {
        self.0 += 1;
        // SplitMix64: <https://prng.di.unimi.it/splitmix64.c>.
        let mut mixed = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let wide = u128::from(mixed);
        ((wide << 64 | u128::from(self.0)).to_be_bytes(), u128::from(self.0).to_be_bytes())
    }
}

/// A payload as the raw loops insert it, of the same length as the event's.
pub fn payload() -> Vec<u8> {
    vec![b'x'; usize::try_from(crate::load::PAYLOAD_BYTES).expect("it is small")]
}

/// Milliseconds since 1970, as the tables have them.
pub fn unix_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_millis()).expect("it lasts")
}
