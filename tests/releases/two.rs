//! The second release of the program in `one.rs`: an event is renamed, both have new versions, a handler is renamed, and one is
//! new.

use std::{env, io::Write, path::PathBuf};

use evented::prelude::*;
use evented_tests::open_pool;
use serde::{Deserialize, Serialize};

#[event(transactional, id = "order.settled", aliases("order.paid"), version = 2, from(PaidV1))]
#[derive(Serialize, Deserialize)]
struct Settled {
    order: i64,
    currency: String,
}

#[derive(Deserialize)]
struct PaidV1 {
    order: i64,
}

impl From<PaidV1> for Settled {
    fn from(PaidV1 { order }: PaidV1) -> Self {
        Self { order, currency: "EUR".to_owned() }
    }
}

// Was `order.paid/ship`: the function is renamed too.
#[handler(Settled, outbox, aliases("order.paid/ship"))]
async fn send(event: Settled, tx: &mut Tx<Sqlite>) -> anyhow::Result<()> {
    evented::sqlx::query("insert into ledger values (?)").bind(event.order).execute(&mut **tx).await?;
    say(format_args!("ship {}", event.order))
}

// Was `order.paid/mail`, which follows from the event's alias.
#[handler(Settled, background)]
async fn mail(event: Settled) -> anyhow::Result<()> {
    say(format_args!("mail {} {}", event.order, event.currency))
}

#[event(version = 2, from(SignedUpV1))]
#[derive(Serialize, Deserialize)]
struct SignedUp {
    first: String,
    number: i64,
}

#[derive(Deserialize)]
struct SignedUpV1 {
    name: String,
}

impl From<SignedUpV1> for SignedUp {
    fn from(SignedUpV1 { name }: SignedUpV1) -> Self {
        let (first, number) = name.split_once(' ').unwrap_or((&name, "0"));
        Self { first: first.to_owned(), number: number.parse().unwrap_or(0) }
    }
}

#[handler(SignedUp, background)]
async fn greet(event: SignedUp) -> anyhow::Result<()> {
    say(format_args!("greet {} {}", event.first, event.number))
}

/// New in this release.
#[handler(SignedUp, background)]
async fn count(event: SignedUp) -> anyhow::Result<()> {
    say(format_args!("count {}", event.number))
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
        emit_in(&mut tx, Settled { order: number, currency: "USD".to_owned() }).await?;
        tx.commit().await?;
        emit(SignedUp { first: "Ada".to_owned(), number }).await?;
        emit(Ticked { number }).await?;
    }
    app.stop().await;
    Ok(())
}
