//! The first release of the program in `program.rs`.

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
        paid = $paid:literal, signed_up = $signed_up:literal, ticked = $ticked:literal, sailed = $sailed:literal
    ) => {
        mod $module {
            use super::*;

            #[event(transactional, id = $paid)]
            #[derive(Serialize, Deserialize)]
            struct Paid {
                order: i64,
            }

            #[handler(Paid, outbox)]
            async fn ship(event: Paid, tx: &mut Tx<$Db>) -> anyhow::Result<()> {
                query($insert).bind(event.order).execute(&mut **tx).await?;
                say(format_args!("ship {}", event.order))
            }

            #[handler(Paid, background)]
            async fn mail(event: Paid) -> anyhow::Result<()> {
                say(format_args!("mail {}", event.order))
            }

            #[event(id = $signed_up)]
            #[derive(Serialize, Deserialize)]
            struct SignedUp {
                name: String,
            }

            #[handler(SignedUp, background)]
            async fn greet(event: SignedUp) -> anyhow::Result<()> {
                say(format_args!("greet {}", event.name))
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

            /// Its handlers are moved and renamed by the next release.
            #[event(transactional, id = $sailed)]
            #[derive(Serialize, Deserialize)]
            struct Sailed {
                number: i64,
            }

            #[handler(Sailed, background)]
            async fn log(event: Sailed) -> anyhow::Result<()> {
                say(format_args!("log {}", event.number))
            }

            #[handler(Sailed, outbox)]
            async fn book(event: Sailed, tx: &mut Tx<$Db>) -> anyhow::Result<()> {
                query($insert).bind(event.number).execute(&mut **tx).await?;
                say(format_args!("book {}", event.number))
            }

            #[handler(Sailed, background)]
            async fn wave(event: Sailed) -> anyhow::Result<()> {
                say(format_args!("wave {}", event.number))
            }

            impl Release for $Db {
                const HANDLERS: &'static str = module_path!();

                async fn emit(pool: &Pool<Self>, number: i64) -> anyhow::Result<()> {
                    let mut tx = evented::begin(pool).await?;
                    emit_in(&mut tx, Paid { order: number }).await?;
                    tx.commit().await?;
                    emit(SignedUp { name: format!("Ada {number}") }).await?;
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
    paid = "sqlite.paid", signed_up = "sqlite.signed_up", ticked = "sqlite.ticked", sailed = "sqlite.sailed"
}
release! {
    postgres, Postgres, "insert into ledger values ($1)",
    paid = "postgres.paid", signed_up = "postgres.signed_up", ticked = "postgres.ticked", sailed = "postgres.sailed"
}
release! {
    mysql, MySql, "insert into ledger values (?)",
    paid = "mysql.paid", signed_up = "mysql.signed_up", ticked = "mysql.ticked", sailed = "mysql.sailed"
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    program::run().await
}
