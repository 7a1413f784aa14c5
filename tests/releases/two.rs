//! The second release of the program in `program.rs`: an event is renamed, two have new versions, a handler is renamed, and
//! one is new.

mod program;

use evented::{
    prelude::*,
    sqlx::{MySql, Pool, Postgres, query},
};
use serde::{Deserialize, Serialize};

use program::{Release, say};

/// The events and handlers on a database. Ids are unique in a program: each database has its own.
macro_rules! release {
    (
        $module:ident, $Db:ident, $insert:literal,
        settled = $settled:literal, was $paid:literal, send was $ship:literal,
        signed_up = $signed_up:literal, ticked = $ticked:literal, sailed = $sailed:literal, wave = $wave:literal
    ) => {
        mod $module {
            use super::*;

            #[event(transactional, id = $settled, aliases($paid), version = 2, from(PaidV1))]
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

            // Was `ship` of the event's alias: the function is renamed too.
            #[handler(Settled, outbox, aliases($ship))]
            async fn send(event: Settled, tx: &mut Tx<$Db>) -> anyhow::Result<()> {
                query($insert).bind(event.order).execute(&mut **tx).await?;
                say(format_args!("ship {}", event.order))
            }

            // Was `mail` of the event's alias, from which that follows.
            #[handler(Settled, background)]
            async fn mail(event: Settled) -> anyhow::Result<()> {
                say(format_args!("mail {} {}", event.order, event.currency))
            }

            #[event(id = $signed_up, version = 2, from(SignedUpV1))]
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
            #[event(id = $ticked)]
            #[derive(Serialize, Deserialize)]
            struct Ticked {
                number: i64,
            }

            #[handler(Ticked, background)]
            async fn tick(event: Ticked) -> anyhow::Result<()> {
                say(format_args!("tick {}", event.number))
            }

            #[event(transactional, id = $sailed)]
            #[derive(Serialize, Deserialize)]
            struct Sailed {
                number: i64,
            }

            // Was on `background`.
            #[handler(Sailed, outbox)]
            async fn log(event: Sailed, _tx: &mut Tx<$Db>) -> anyhow::Result<()> {
                say(format_args!("log {}", event.number))
            }

            // Was on `outbox`.
            #[handler(Sailed, background)]
            async fn book(event: Sailed, tx: &mut Tx<$Db>) -> anyhow::Result<()> {
                query($insert).bind(event.number).execute(&mut **tx).await?;
                say(format_args!("book {}", event.number))
            }

            #[handler(Sailed, background, aliases($wave))]
            async fn greet_the_ship(event: Sailed) -> anyhow::Result<()> {
                say(format_args!("wave {}", event.number))
            }

            impl Release for $Db {
                const HANDLERS: &'static str = module_path!();

                async fn emit(pool: &Pool<Self>, number: i64) -> anyhow::Result<()> {
                    let mut tx = evented::begin(pool).await?;
                    emit_in(&mut tx, Settled { order: number, currency: "USD".to_owned() }).await?;
                    tx.commit().await?;
                    emit(SignedUp { first: "Ada".to_owned(), number }).await?;
                    Ok(emit(Ticked { number }).await?)
                }

                async fn sail(pool: &Pool<Self>, number: i64) -> anyhow::Result<()> {
                    let mut tx = evented::begin(pool).await?;
                    emit_in(&mut tx, Sailed { number }).await?;
                    Ok(tx.commit().await?)
                }
            }
        }
    };
}

release! {
    sqlite, Sqlite, "insert into ledger values (?)",
    settled = "sqlite.settled", was "sqlite.paid", send was "sqlite.paid/ship",
    signed_up = "sqlite.signed_up", ticked = "sqlite.ticked",
    sailed = "sqlite.sailed", wave = "sqlite.sailed/wave"
}
release! {
    postgres, Postgres, "insert into ledger values ($1)",
    settled = "postgres.settled", was "postgres.paid", send was "postgres.paid/ship",
    signed_up = "postgres.signed_up", ticked = "postgres.ticked",
    sailed = "postgres.sailed", wave = "postgres.sailed/wave"
}
release! {
    mysql, MySql, "insert into ledger values (?)",
    settled = "mysql.settled", was "mysql.paid", send was "mysql.paid/ship",
    signed_up = "mysql.signed_up", ticked = "mysql.ticked",
    sailed = "mysql.sailed", wave = "mysql.sailed/wave"
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    program::run().await
}
