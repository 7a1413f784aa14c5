//! What the shop's own database says in the end.

use std::collections::BTreeMap;

use evented::sqlx::{self, SqlitePool};

pub struct Books {
    pub accepted: Vec<u32>,
    pub refused: Vec<u32>,
    pub stock: BTreeMap<String, i64>,
    pub ledger_entries: i64,
    pub ledger_cents: i64,
    /// Orders that are not booked exactly once with their total, or are booked although they were refused. The sums
    /// alone would not show a payment that is lost and another that is booked twice.
    pub wrongly_booked: Vec<u32>,
}

impl Books {
    pub async fn read(db: &SqlitePool) -> sqlx::Result<Self> {
        let of_status = "select number from orders where status = ?1 order by placed";
        let stock: Vec<(String, i64)> = sqlx::query_as("select sku, stock from products").fetch_all(db).await?;
        let (ledger_entries, ledger_cents) =
            sqlx::query_as("select count(*), coalesce(sum(amount_cents), 0) from ledger").fetch_one(db).await?;
        let wrongly_booked = sqlx::query_scalar(
            "select number from orders left join ledger on order_number = number
             group by number, total_cents, status
             having count(entry) <> (status = 'accepted')
                 or (status = 'accepted' and sum(amount_cents) <> total_cents)",
        );
        Ok(Self {
            accepted: sqlx::query_scalar(of_status).bind("accepted").fetch_all(db).await?,
            refused: sqlx::query_scalar(of_status).bind("refused").fetch_all(db).await?,
            stock: stock.into_iter().collect(),
            ledger_entries,
            ledger_cents,
            wrongly_booked: wrongly_booked.fetch_all(db).await?,
        })
    }
}
