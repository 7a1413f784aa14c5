//! What both releases of the program have alike: `DATABASE QUEUE emit N` and `DATABASE QUEUE sail N` emit and end, `DATABASE QUEUE
//! work` works until it is killed, and says a line for each delivery that it ran. Both stores are named by their URLs.

use std::{env, fmt, io::Write, time::Duration};

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

    /// Emits the event whose handlers are moved.
    fn sail(pool: &Pool<Self>, number: i64) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What the program is asked for.
#[derive(Clone, Copy)]
enum Act {
    Emit(i64),
    Sail(i64),
    Work,
}

/// Does what the arguments say, on the database that they name.
pub async fn run() -> anyhow::Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let (database, queue, act) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [database, queue, "emit", emits] => (database, queue, Act::Emit(emits.parse()?)),
        [database, queue, "sail", emits] => (database, queue, Act::Sail(emits.parse()?)),
        [database, queue, "work"] => (database, queue, Act::Work),
        _ => bail!("say `DATABASE QUEUE emit N`, `DATABASE QUEUE sail N` or `DATABASE QUEUE work`"),
    };
    match database.split_once(':') {
        Some(("sqlite", _)) => run_on(open_pool(sqlite_path(database).into()).await, queue, act).await,
        Some(("postgres", _)) => run_on(PgPool::connect(database).await?, queue, act).await,
        Some(("mysql", _)) => run_on(MySqlPool::connect(database).await?, queue, act).await,
        _ => bail!("`{database}` is no database of this program; there are `sqlite:`, `postgres:` and `mysql:`"),
    }
}

async fn run_on<Db: Release>(pool: Pool<Db>, queue: &str, act: Act) -> anyhow::Result<()> {
    let role = if matches!(act, Act::Work) { Role::Work } else { Role::Emit };
    let run = evented::run().module(Db::HANDLERS).queue(queue).outbox(pool.clone()).role(role);
    // What a killed one had in hand is soon another's.
    let app = run.lease(Duration::from_secs(3)).await?;
    match act {
        Act::Emit(emits) => {
            for number in 1..=emits {
                Db::emit(&pool, number).await?;
            }
        }
        Act::Sail(emits) => {
            for number in 1..=emits {
                Db::sail(&pool, number).await?;
            }
        }
        Act::Work => return Ok(app.until_stopped().await?),
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
