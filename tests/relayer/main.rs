//! A process that only relays, for tests that stop it between two of its steps: `DATABASE QUEUE`, both by their URLs. It says
//! `ready` once it relays. Its events and handlers are those of `it::late`; it runs none of them.

use std::{env, io::Write, time::Duration};

use anyhow::{Context as _, bail};
use evented::{
    Outboxed,
    prelude::*,
    sqlx::{MySqlPool, PgPool, Pool},
};
use evented_tests::{ground::sqlite_path, open_pool};
use serde::{Deserialize, Serialize};

#[event(transactional, id = "late.sent")]
#[derive(Serialize, Deserialize)]
struct Sent {
    key: u32,
    number: u32,
}

#[handler(Sent, background(ordered_by = "key"), id = "late.follow")]
async fn follow(_event: Sent) {}

#[handler(Sent, background, id = "late.join")]
async fn join(_event: Sent) {}

/// Never emitted: a process that works on this queue alone relays, and runs nothing.
#[event(id = "late.never")]
#[derive(Serialize, Deserialize)]
struct Never;

#[handler(Never, background(queue = "late-relays"), id = "late.idle")]
async fn idle(_event: Never) {}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    evented_tests::children::log_to_stderr();
    let mut args = env::args().skip(1);
    let database = args.next().context("the first argument is the database")?;
    let queue = args.next().context("the second argument is the queue")?;
    match database.split_once(':') {
        Some(("sqlite", _)) => relay(open_pool(sqlite_path(&database).into()).await, &queue).await,
        Some(("postgres", _)) => relay(PgPool::connect(&database).await?, &queue).await,
        Some(("mysql", _)) => relay(MySqlPool::connect(&database).await?, &queue).await,
        _ => bail!("`{database}` is no database of this program"),
    }
}

async fn relay<Db: Outboxed>(pool: Pool<Db>, queue: &str) -> anyhow::Result<()> {
    let run = evented::run().queue(queue).outbox(pool).role(Role::Work).queues(["late-relays"]);
    let app = run.lease(Duration::from_secs(1)).await?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready")?;
    out.flush()?;
    drop(out);
    Ok(app.until_stopped().await?)
}
