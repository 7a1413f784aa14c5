//! The example of the README, with one handler on each route.

use evented::prelude::*;
use evented::sqlx::{self, SqlitePool, query};
use serde::{Deserialize, Serialize};

#[event]
#[derive(Serialize, Deserialize)]
struct OrderPlaced {
    order_id: i64,
    email: String,
}

#[event(transactional)] // emitted inside a database transaction only
#[derive(Serialize, Deserialize)]
struct PaymentCaptured {
    order_id: i64,
    cents: i64,
}

#[handler(OrderPlaced)] // runs inside `emit`, before it returns
fn count_order(event: &OrderPlaced) {
    println!("order {} is counted", event.order_id);
}

#[handler(OrderPlaced, background(queue = "mail", retries = 8, timeout = "30s"))] // stored by `emit`, run by a worker
async fn send_confirmation(event: OrderPlaced) {
    println!("a mail goes to {}", event.email);
}

#[handler(PaymentCaptured, outbox)] // delivered if, and only if, the payment committed; booked exactly once
async fn book_payment(event: PaymentCaptured, tx: &mut Tx<Sqlite>) -> Result<(), sqlx::Error> {
    println!("payment {} is booked", event.order_id);
    query("insert into ledger values (?, ?)").bind(event.order_id).bind(event.cents).execute(&mut **tx).await.map(drop)
}

#[tokio::main]
async fn main() -> evented::Result<()> {
    let pool = SqlitePool::connect("sqlite:shop.db?mode=rwc").await?;
    query("pragma journal_mode = wal").execute(&pool).await?;
    query("create table if not exists ledger (order_id, cents)").execute(&pool).await?;
    let app = evented::run().outbox(pool.clone()).await?; // checks everything, starts the workers

    emit(OrderPlaced { order_id: 17, email: "ada@example.org".into() }).await?;

    let mut tx = evented::begin(&pool).await?; // a transaction of sqlx, which tells at its commit
    query("insert into ledger values (17, -4200)").execute(&mut *tx).await?;
    emit_in(&mut tx, PaymentCaptured { order_id: 17, cents: 4200 }).await?;
    tx.commit().await?;

    app.until_idle().await?; // a service waits here instead, with `app.until_stopped().await`
    app.stop().await;
    Ok(())
}
