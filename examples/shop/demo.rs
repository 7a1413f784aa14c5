//! The demo: place every order of the file, wait until all is delivered, and check that it adds up.

use std::{cell::Cell, collections::BTreeMap, process::ExitCode, time::Duration};

use anyhow::ensure;
use evented::{App, prelude::*, sqlx};

use crate::{
    books::Books,
    check::{Answers, Checks},
    expect::Expected,
    orders::{self, Cart, Order},
    place::{Placed, place},
    progress,
    shop::Shop,
    table,
};

pub async fn run(shop: &Shop) -> anyhow::Result<ExitCode> {
    let orders = orders::from_file()?;
    let app = shop.evented().role(Role::All).await?;
    println!("placing {} orders; databases, mails and invoices are in {}/", orders.len(), shop.data().display());

    let placed = Cell::new(0);
    let answers = tokio::select! {
        answers = place_all(shop, &app, &orders, &placed) => answers?,
        failed = progress::show(&app, &placed, orders.len()) => match failed? {},
    };
    progress::clear();
    let counts = app.counts().await?;
    let dead_letters = app.dead_letters().await?;
    app.stop().await;

    let books = Books::read(&shop.db).await?;
    let expected = Expected::of(&in_sequence(shop, orders).await?);
    let mut checks = Checks::default();
    checks.deliveries(&counts, &expected);
    checks.this_run(&counts, &shop.metrics, answers);
    checks.books(&books, &expected);
    checks.files(shop, &expected)?;

    println!();
    table::print(&books, &counts, &shop.timings);
    table::print_dead_letters(&dead_letters);
    table::print_verdict(&checks);
    Ok(if checks.mismatches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Between two orders, so that there is time to watch, and to kill it in the middle.
const PAUSE: Duration = Duration::from_millis(15);

/// Places the orders one after the other, and comes back when all that they set off is done.
async fn place_all(shop: &Shop, app: &App, orders: &[Order], placed: &Cell<usize>) -> anyhow::Result<Answers> {
    let mut answers = Answers::default();
    for order in orders {
        match place(&shop.db, order).await? {
            Placed::Accepted { .. } => {
                answers.accepted += 1;
                answers.revenue_cents += order.total_cents;
            }
            Placed::Refused { .. } => answers.refused += 1,
            Placed::Before => {
                placed.set(placed.get() + 1);
                continue;
            }
        }
        tokio::time::sleep(PAUSE).await;
        placed.set(placed.get() + 1);
    }
    app.until_idle().await?;
    Ok(answers)
}

/// The orders in the sequence in which they were placed. `serve` may have taken some in between: those as they were
/// stored, all others as the file has them.
async fn in_sequence(shop: &Shop, file: Vec<Order>) -> anyhow::Result<Vec<Order>> {
    let mut file: BTreeMap<_, _> = file.into_iter().map(|order| (order.number, order)).collect();
    let rows: Vec<(u32, String, String)> =
        sqlx::query_as("select number, email, items from orders order by placed").fetch_all(&shop.db).await?;
    let mut orders = Vec::with_capacity(rows.len());
    for (number, email, items) in rows {
        orders.push(if let Some(order) = file.remove(&Some(number)) {
            order
        } else {
            let items = serde_json::from_str(&items)?;
            Order::new(Some(number), Cart { name: String::new(), email, address: String::new(), items })?
        });
    }
    ensure!(file.is_empty(), "{} orders of the file are not in the database", file.len());
    Ok(orders)
}
