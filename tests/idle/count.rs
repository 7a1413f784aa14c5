//! How many statements an idle process runs, as told by whoever runs them.

use std::{
    fs,
    io::{self, BufRead},
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use evented_tests::{children::Child, ground::Ground, servers::Redis};
use tracing::{Event, Metadata, Subscriber, span};

/// The target of sqlx's line for each statement.
const TARGET: &str = "sqlx::query";

static STATEMENTS: AtomicU64 = AtomicU64::new(0);

/// How many statements there were so far.
pub async fn statements(ground: &Ground, child: &mut Child) -> anyhow::Result<u64> {
    if let Some(postgres) = ground.postgres() {
        let log = fs::read_to_string(postgres.folder().join("log"))?;
        // In the simple protocol it is a `statement`, in the extended one, by which drivers bind values, an `execute`.
        let is_statement = |line: &&str| line.contains("LOG:  statement: ") || line.contains("LOG:  execute ");
        return Ok(log.lines().filter(is_statement).count().try_into()?);
    }
    if let Some(redis) = ground.redis() {
        return sent_to(redis).await;
    }
    child.tell("count").await?;
    child.line().await?.parse().context("a child answers with a number")
}

/// The commands that were sent to a redis since the first time that it was asked: it tells each to whoever monitors it, those
/// inside scripts marked as such. `INFO` counts both alike. The monitor ends with its server.
async fn sent_to(redis: &Redis) -> anyhow::Result<u64> {
    let told = redis.folder().join("monitor");
    if !told.exists() {
        let out = fs::File::create(&told)?;
        let port = redis.port().to_string();
        Command::new("redis-cli")
            .args(["-p", &port, "monitor"])
            .stdout(out)
            .stderr(Stdio::null())
            .spawn()
            .context("redis-cli starts")?;
        while fs::read_to_string(&told)?.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let told = fs::read_to_string(told)?;
    Ok(told.lines().skip(1).filter(|line| !line.contains(" lua] ")).count().try_into()?)
}

/// Counts the statements of this process from now on.
pub fn count_here() {
    tracing::subscriber::set_global_default(Counter).expect("it is the only one");
}

/// Answers each line of the standard input with the count, until its end.
pub fn answer() -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        line?;
        println!("{}", STATEMENTS.load(Ordering::Relaxed));
    }
    Ok(())
}

/// Sees the lines of sqlx alone, and does not read them.
struct Counter;

impl Subscriber for Counter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET
    }

    fn event(&self, _event: &Event<'_>) {
        STATEMENTS.fetch_add(1, Ordering::Relaxed);
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}
    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}
    fn enter(&self, _span: &span::Id) {}
    fn exit(&self, _span: &span::Id) {}
}
