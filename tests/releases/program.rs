//! What both releases of the program have alike: `DATABASE QUEUE emit N` emits and ends, `DATABASE QUEUE work` works until it
//! is killed, and says a line for each delivery that it ran. Both stores are named by their URLs.

use std::{env, fmt, io::Write};

use anyhow::bail;
use evented::{
    Outboxed, Role,
    sqlx::{MySqlPool, PgPool, Pool},
};
use evented_tests::{ground::sqlite_path, open_pool};

/// An application's database, with a release's events and handlers for it: a handler's `Tx` is of one database.
pub trait Release: Outboxed {
    /// The module of the handlers.
    const HANDLERS: &'static str;

    /// Emits one event of each kind.
    fn emit(pool: &Pool<Self>, number: i64) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Does what the arguments say, on the database that they name.
pub async fn run() -> anyhow::Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let (database, queue, emits) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [database, queue, "emit", emits] => (database, queue, Some(emits.parse()?)),
        [database, queue, "work"] => (database, queue, None),
        _ => bail!("say `DATABASE QUEUE emit N` or `DATABASE QUEUE work`"),
    };
    match database.split_once(':') {
        Some(("sqlite", _)) => run_on(open_pool(sqlite_path(database).into()).await, queue, emits).await,
        Some(("postgres", _)) => run_on(PgPool::connect(database).await?, queue, emits).await,
        Some(("mysql", _)) => run_on(MySqlPool::connect(database).await?, queue, emits).await,
        _ => bail!("`{database}` is no database of this program; there are `sqlite:`, `postgres:` and `mysql:`"),
    }
}

async fn run_on<Db: Release>(pool: Pool<Db>, queue: &str, emits: Option<i64>) -> anyhow::Result<()> {
    let role = if emits.is_some() { Role::Emit } else { Role::Work };
    let app = evented::run().module(Db::HANDLERS).queue(queue).outbox(pool.clone()).role(role).await?;
    let Some(emits) = emits else { return Ok(app.until_stopped().await?) };
    for number in 1..=emits {
        Db::emit(&pool, number).await?;
    }
    app.stop().await;
    Ok(())
}

/// Says a line at once.
pub fn say(line: fmt::Arguments<'_>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
