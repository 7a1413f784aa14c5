//! The invoices: one HTML file for each order.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::fs;

use crate::{
    catalogue::{self, euros},
    events::OrderPlaced,
    orders::Item,
};

pub struct Invoices(PathBuf);

impl Invoices {
    pub fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// Writes the invoice under its final name in one step: a crash leaves it whole or not there. Writing it again
    /// writes the same, so a second attempt does no harm.
    pub async fn write(&self, order: &OrderPlaced) -> io::Result<()> {
        let file = file(&self.0, order.number);
        let draft = file.with_extension(format!("{}.draft", std::process::id()));
        fs::write(&draft, render(order)).await?;
        fs::rename(&draft, &file).await
    }
}

/// Where the invoice of an order is.
pub fn file(directory: &Path, order: u32) -> PathBuf {
    directory.join(format!("{order:05}.html"))
}

fn render(order: &OrderPlaced) -> String {
    let rows: Vec<_> = order.cart.items.iter().map(row).collect();
    format!(
        r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Invoice {number}</title>
<style>
body {{ font: 16px/1.5 Georgia, serif; max-width: 40em; margin: 4em auto; }}
table {{ width: 100%; border-collapse: collapse; }}
td {{ padding: .3em 0; border-bottom: 1px solid #ddd; }}
td:nth-child(n+3), tfoot td {{ text-align: right; }}
</style>
<h1>Invoice {number}</h1>
<p>{name}<br>{address}<br>{email}</p>
<table>
<tbody>
{rows}</tbody>
<tfoot><tr><td colspan="4"><strong>{total}</strong></td></tr></tfoot>
</table>
</html>
"#,
        rows = rows.concat(),
        number = order.number,
        name = escape(&order.cart.name),
        address = escape(&order.cart.address),
        email = escape(&order.cart.email),
        total = euros(order.total_cents),
    )
}

fn row(item: &Item) -> String {
    let (name, price_cents) = match catalogue::find(&item.sku) {
        Some(product) => (product.name, product.price_cents),
        // It was sold and has left the catalogue since; the total still counts it.
        None => (&*item.sku, 0),
    };
    format!(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
        item.quantity,
        escape(name),
        euros(price_cents),
        euros(price_cents * i64::from(item.quantity)),
    )
}

/// Customers write what they like in their names.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
