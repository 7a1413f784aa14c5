//! The first release of a program: `one FOLDER emit N` emits and ends, `one FOLDER work` works until it is killed, and says a
//! line for each delivery that it ran.

use std::{env, io::Write, path::PathBuf};

use evented::prelude::*;
use evented_tests::open_pool;
use serde::{Deserialize, Serialize};

#[event(transactional, id = "order.paid")]
#[derive(Serialize, Deserialize)]
struct Paid {
    order: i64,
}

#[handler(Paid, outbox)]
async fn ship(event: Paid, tx: &mut Tx<Sqlite>) -> anyhow::Result<()> {
    evented::sqlx::query("insert into ledger values (?)").bind(event.order).execute(&mut **tx).await?;
    say(format_args!("ship {}", event.order))
}

#[handler(Paid, background)]
async fn mail(event: Paid) -> anyhow::Result<()> {
    say(format_args!("mail {}", event.order))
}

#[event]
#[derive(Serialize, Deserialize)]
struct SignedUp {
    name: String,
}

#[handler(SignedUp, background)]
async fn greet(event: SignedUp) -> anyhow::Result<()> {
    say(format_args!("greet {}", event.name))
}

/// The same in both releases.
#[event]
#[derive(Serialize, Deserialize)]
struct Ticked {
    number: i64,
}

#[handler(Ticked, background)]
async fn tick(event: Ticked) -> anyhow::Result<()> {
    say(format_args!("tick {}", event.number))
}

fn say(line: std::fmt::Arguments<'_>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = env::args().collect();
    let folder = PathBuf::from(&args[1]);
    let pool = open_pool(folder.join("shop.db")).await;
    let role = if args[2] == "work" { Role::Work } else { Role::Emit };
    let queue = format!("sqlite:{}", folder.join("evented.db").display());
    let app = evented::run().queue(queue).outbox(pool.clone()).role(role).await?;
    if args[2] == "work" {
        return Ok(app.until_stopped().await?);
    }
    for number in 1..=args[3].parse()? {
        let mut tx = evented::begin(&pool).await?;
        emit_in(&mut tx, Paid { order: number }).await?;
        tx.commit().await?;
        emit(SignedUp { name: format!("Ada {number}") }).await?;
        emit(Ticked { number }).await?;
    }
    app.stop().await;
    Ok(())
}
