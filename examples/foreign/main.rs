//! Events in the transactions of other libraries, with the outbox in the same database: `sea-orm`, which a feature of evented
//! knows, and `tokio-postgres`, which the application tells it of in `in_tokio_postgres`.
//!
//! `cargo run --example foreign -- postgres://user@localhost/shop`

mod in_tokio_postgres;

use evented::prelude::*;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, TransactionTrait};
use serde::{Deserialize, Serialize};
use tokio_postgres::NoTls;

#[event(transactional)]
#[derive(Serialize, Deserialize)]
struct TicketSold {
    seat: i32,
}

#[handler(TicketSold, outbox)]
async fn print_ticket(event: TicketSold) {
    println!("the ticket for seat {} is printed", event.seat);
}

// evented's own side is sqlx's: a handler's transaction is one of the pool that `run()` was given.
#[handler(TicketSold, outbox)]
async fn count(event: TicketSold, tx: &mut Tx<Postgres>) -> Result<(), evented::sqlx::Error> {
    let count = "update sales set sold = sold + 1 returning sold";
    let sold: i32 = evented::sqlx::query_scalar(count).fetch_one(&mut **tx).await?;
    println!("{sold} sold, the last one seat {}", event.seat);
    Ok(())
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Sells a seat, where it is free: the sale and its event are one commit, or none is.
async fn sell(shop: &mut tokio_postgres::Client, seat: i32) -> Result<(), Failure> {
    let mut tx = shop.transaction().await?;
    emit_in(&mut tx, TicketSold { seat }).await?;
    let sold = tx.execute("insert into seats values ($1) on conflict do nothing", &[&seat]).await?;
    if sold == 0 {
        println!("seat {seat} is taken");
        return Ok(tx.rollback().await?);
    }
    Ok(tx.commit().await?)
}

/// The same with `sea-orm`, for which there is nothing to write.
async fn sell_online(shop: &DatabaseConnection, seat: i32) -> Result<(), Failure> {
    let mut tx = shop.begin().await?;
    emit_in(&mut tx, TicketSold { seat }).await?;
    tx.execute_unprepared(&format!("insert into seats values ({seat})")).await?;
    Ok(tx.commit().await?)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let url = std::env::args().nth(1).ok_or("write the database's URL behind the command")?;
    let (mut shop, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    let tables = "create table if not exists seats (seat int4 primary key);
        create table if not exists sales (sold int4 not null);
        insert into sales select 0 where not exists (select from sales)";
    shop.batch_execute(tables).await?;

    let online = Database::connect(&url).await?;
    let app = evented::run().queue(&url).outbox(online.get_postgres_connection_pool().clone()).await?;
    for seat in [17, 18, 17] {
        sell(&mut shop, seat).await?;
    }
    sell_online(&online, 19).await?;
    app.until_idle().await?;
    app.stop().await;
    Ok(())
}
