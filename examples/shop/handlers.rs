//! What an order sets off: one function for each consequence, each on the route that it needs.

use std::{error::Error, time::Duration};

use evented::{prelude::*, sqlx};

use crate::{
    events::{OrderAnswered, OrderPlaced, OrderRefused},
    figures::{Metrics, Timings},
    invoice::Invoices,
    mail::{Letter, Mailer},
    place::OutOfStock,
};

/// The goods leave the shelf inside the order's own transaction: at no moment do two customers own the last kettle.
///
/// The error is boxed as it is, without more context: whoever called `emit_in` looks for [`OutOfStock`] in it.
#[handler(OrderPlaced, in_process(in_transaction))]
async fn reserve_stock(event: &OrderPlaced, tx: &mut Tx<Sqlite>) -> Result<(), Box<dyn Error + Send + Sync>> {
    for item in &event.cart.items {
        let take = sqlx::query("update products set stock = stock - ?1 where sku = ?2 and stock >= ?1");
        let taken = take.bind(item.quantity).bind(&item.sku).execute(&mut **tx).await?;
        if taken.rows_affected() == 0 {
            return Err(OutOfStock { sku: item.sku.clone() }.into());
        }
    }
    Ok(())
}

/// A number on a dashboard: in process and at most once is good enough.
#[handler(OrderAnswered)]
fn count(event: &OrderAnswered, metrics: State<Metrics>) {
    metrics.count(event.accepted, event.total_cents);
}

/// Money must be booked exactly once. The ledger's row and the end of the delivery are one commit, and nothing else
/// guards the ledger: it has no unique constraint.
#[handler(OrderPlaced, outbox)]
async fn book_payment(
    event: &OrderPlaced,
    tx: &mut Tx<Sqlite>,
    timings: State<Timings>,
    delivery: Delivery,
) -> Result<(), sqlx::Error> {
    let book = sqlx::query("insert into ledger (order_number, amount_cents) values (?1, ?2)");
    book.bind(event.number).bind(event.total_cents).execute(&mut **tx).await?;
    timings.record("OrderPlaced/book_payment", &delivery);
    Ok(())
}

/// A mail server is slow and sometimes says no, so the customer does not wait for it. It is a plain `fn`, because the
/// mail library blocks: it runs on the blocking pool.
#[handler(OrderPlaced, background(queue = "mail", retries = 5, backoff("100ms", max = "1s"), timeout = "10s"))]
fn send_confirmation(
    event: &OrderPlaced,
    mailer: State<Mailer>,
    timings: State<Timings>,
    delivery: Delivery,
) -> anyhow::Result<()> {
    mailer.send(&Letter::confirmation(event), &delivery)?;
    timings.record("OrderPlaced/send_confirmation", &delivery);
    Ok(())
}

/// Also a refused customer gets a mail, from the same queue.
#[handler(OrderRefused, background(queue = "mail", retries = 5, backoff("100ms", max = "1s"), timeout = "10s"))]
fn send_regrets(
    event: &OrderRefused,
    mailer: State<Mailer>,
    timings: State<Timings>,
    delivery: Delivery,
) -> anyhow::Result<()> {
    mailer.send(&Letter::regrets(event), &delivery)?;
    timings.record("OrderRefused/send_regrets", &delivery);
    Ok(())
}

/// Slow work has a queue of its own, so that mails do not stand in line behind it.
#[handler(OrderPlaced, background(queue = "invoices"))]
async fn write_invoice(
    event: &OrderPlaced,
    invoices: State<Invoices>,
    timings: State<Timings>,
    delivery: Delivery,
) -> anyhow::Result<()> {
    // Stands in for a renderer that takes its time.
    tokio::time::sleep(Duration::from_millis(80 + u64::from(event.number * 37 % 71))).await;
    invoices.write(event).await?;
    timings.record("OrderPlaced/write_invoice", &delivery);
    Ok(())
}
