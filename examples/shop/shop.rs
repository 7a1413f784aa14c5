//! The shop's own database and files, and what evented is told about them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use evented::sqlx::{
    self, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};

use crate::{
    catalogue::CATALOGUE,
    figures::{Metrics, Timings},
    invoice::Invoices,
    mail::Mailer,
};

const SCHEMA: &str = "
create table if not exists products (
    sku          text primary key,
    stock        integer not null check (stock >= 0)
);
create table if not exists orders (
    placed       integer primary key,  -- the sequence in which they were placed
    number       integer not null unique,
    email        text not null,
    items        text not null,        -- JSON
    total_cents  integer not null,
    status       text not null check (status in ('accepted', 'refused'))
);
create table if not exists ledger (
    entry        integer primary key,
    order_number integer not null,     -- not unique: that each order is booked once is evented's work
    amount_cents integer not null
);
";

pub struct Shop {
    data: PathBuf,
    queue: String,
    pub db: SqlitePool,
    pub metrics: Metrics,
    pub timings: Timings,
}

impl Shop {
    /// Opens the shop whose files are in `data`, or a new one. Its queue is a file there, or at the URL `queue`; then the files
    /// are in a folder of their own, since an outbox feeds one queue: to change it is `evented::adopt`'s.
    pub async fn open(data: PathBuf, queue: Option<String>) -> anyhow::Result<Self> {
        let scheme = queue.as_deref().and_then(|url| url.split_once(':')).map(|(scheme, _)| scheme.to_owned());
        let data = scheme.map_or_else(|| data.clone(), |scheme| data.join(scheme));
        let db = open_database(&data).await?;
        let queue = queue.unwrap_or_else(|| format!("sqlite:{}", data.join("evented.db").display()));
        let shop = Self { data, queue, db, metrics: Metrics::default(), timings: Timings::default() };
        for directory in [shop.mails(), shop.invoices()] {
            std::fs::create_dir_all(&directory).with_context(|| format!("cannot create `{}`", directory.display()))?;
        }
        Ok(shop)
    }

    /// The same for all modes: whichever process runs a handler, it finds the same state.
    pub fn evented(&self) -> evented::Run {
        evented::run()
            .state(self.metrics.clone())
            .state(self.timings.clone())
            .state(Mailer::new(self.mails()))
            .state(Invoices::new(self.invoices()))
            .queue(&self.queue)
            .outbox(self.db.clone())
            // Short, because the demo invites to kill it: what a killed process held waits this long.
            .lease(Duration::from_secs(5))
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn mails(&self) -> PathBuf {
        self.data.join("mail")
    }

    pub fn invoices(&self) -> PathBuf {
        self.data.join("invoices")
    }
}

async fn open_database(data: &Path) -> anyhow::Result<SqlitePool> {
    std::fs::create_dir_all(data).with_context(|| format!("cannot create `{}`", data.display()))?;
    let file = data.join("shop.db");
    let options = SqliteConnectOptions::new()
        .filename(&file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_secs(10));
    let db = SqlitePoolOptions::new()
        .max_connections(5)
        .connect_with(options)
        .await
        .with_context(|| format!("cannot open `{}`", file.display()))?;

    let mut tx = evented::begin(&db).await?;
    sqlx::raw_sql(SCHEMA).execute(&mut *tx).await?;
    for product in &CATALOGUE {
        let stock = sqlx::query("insert into products (sku, stock) values (?1, ?2) on conflict do nothing");
        stock.bind(product.sku).bind(product.stock).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(db)
}
