//! The process that the crash tests kill. What it does is its second argument:
//!
//! - `place`: places orders without end and works off their deliveries. Prints `order N` once the transaction of order N
//!   has committed, and `note N` once `emit` has returned for it. What was printed must survive.
//! - `work`: works only, and prints `began N` in the middle of each slow handler.
//! - `finish`: works off what is left and ends.
//! - `environment`: the same, with its queue and outbox from the environment alone.

use std::{env, io::Write, path::PathBuf, time::Duration};

use evented::{
    prelude::*,
    sqlx::{SqlitePool, query},
};
use evented_tests::open_pool;
use serde::{Deserialize, Serialize};

#[event(transactional)]
#[derive(Serialize, Deserialize)]
struct Ordered {
    number: i64,
}

#[event]
#[derive(Serialize, Deserialize)]
struct Noted {
    number: i64,
}

#[handler(Ordered, outbox)]
async fn book(event: Ordered, tx: &mut Tx<Sqlite>) -> anyhow::Result<()> {
    query("insert into ledger (entry) values (?)").bind(event.number).execute(&mut **tx).await?;
    Ok(())
}

/// Its effect is outside the delivery's commit, so a crash may repeat it.
#[handler(Ordered, background)]
async fn mail(event: Ordered, pool: State<SqlitePool>) -> anyhow::Result<()> {
    tokio::time::sleep(Duration::from_millis(3)).await;
    query("insert into mails (number) values (?)").bind(event.number).execute(&*pool).await?;
    Ok(())
}

#[handler(Noted, background(queue = "notes"))]
async fn note(event: Noted, pool: State<SqlitePool>) -> anyhow::Result<()> {
    query("insert into notes (number) values (?)").bind(event.number).execute(&*pool).await?;
    Ok(())
}

#[event(id = "slow")]
#[derive(Serialize, Deserialize)]
struct Slow {
    number: i64,
}

/// Long enough to be killed inside.
#[handler(Slow, background(queue = "slow"))]
async fn drag(event: Slow, pool: State<SqlitePool>) -> anyhow::Result<()> {
    say("began", event.number)?;
    tokio::time::sleep(Duration::from_millis(20)).await;
    query("insert into mails (number) values (?)").bind(event.number).execute(&*pool).await?;
    Ok(())
}

/// One of which kills whoever decodes it.
#[event(id = "brittle")]
#[derive(Serialize)]
struct Brittle {
    number: i64,
}

impl<'de> Deserialize<'de> for Brittle {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Number {
            number: i64,
        }
        let Number { number } = Number::deserialize(from)?;
        if number == 13 {
            std::process::abort();
        }
        Ok(Self { number })
    }
}

#[handler(Brittle, background(queue = "brittle"))]
async fn unpack(event: Brittle, pool: State<SqlitePool>) -> anyhow::Result<()> {
    query("insert into mails (number) values (?)").bind(event.number).execute(&*pool).await?;
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let folder = PathBuf::from(args.next().expect("the first argument is the folder"));
    let mode = args.next().expect("the second argument says what to do");
    let pool = open_pool(folder.join("shop.db")).await;
    for table in ["orders", "mails", "notes"] {
        let sql = format!("create table if not exists {table} (number integer not null)");
        query(evented::sqlx::AssertSqlSafe(sql)).execute(&pool).await?;
    }
    let mut run = evented::run().state(pool.clone()).lease(Duration::from_secs(1));
    if mode != "environment" {
        run = run.queue(format!("sqlite:{}", folder.join("evented.db").display())).outbox(pool.clone());
    }
    let app = run.await?;
    match &*mode {
        "finish" | "environment" => {
            app.until_idle().await?;
            app.stop().await;
            return Ok(());
        }
        "work" => return Ok(app.until_stopped().await?),
        _ => {}
    }
    let last: Option<i64> = evented::sqlx::query_scalar("select max(number) from orders").fetch_one(&pool).await?;
    for number in last.unwrap_or(0) + 1.. {
        let mut tx = evented::begin(&pool).await?;
        query("insert into orders (number) values (?)").bind(number).execute(&mut *tx).await?;
        emit_in(&mut tx, Ordered { number }).await?;
        tx.commit().await?;
        say("order", number)?;
        emit(Noted { number }).await?;
        say("note", number)?;
    }
    Ok(())
}

fn say(what: &str, number: i64) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what} {number}")?;
    out.flush()
}
