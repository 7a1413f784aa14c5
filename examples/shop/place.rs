//! One order, one transaction: the order, its goods and its events exist together or not at all.

use std::{error::Error as _, fmt};

use evented::sqlx::{self, SqliteConnection, SqlitePool};

use crate::{
    events::{OrderAnswered, OrderPlaced, OrderRefused},
    orders::Order,
};

/// What became of an order.
pub enum Placed {
    Accepted {
        number: u32,
    },
    Refused {
        number: u32,
        out_of_stock: String,
    },
    /// It had been placed before: nothing was written.
    Before,
}

/// Places `order`. Placing it again changes nothing, so an order whose answer was lost in a crash can simply be sent
/// once more.
pub async fn place(db: &SqlitePool, order: &Order) -> evented::Result<Placed> {
    let Order { cart, total_cents, .. } = order;
    let mut tx = evented::begin(db).await?;
    let Some(number) = insert(&mut tx, order).await? else {
        return Ok(Placed::Before);
    };

    // `reserve_stock` runs inside this emit. When it fails, the emit and what it took are undone; `tx` is as it was
    // before and goes on.
    let event = OrderPlaced { number, cart: cart.clone(), total_cents: *total_cents };
    let out_of_stock = match evented::emit_in(&mut tx, event).await {
        Ok(..) => None,
        Err(error) => Some(sold_out(&error).ok_or(error)?),
    };
    if let Some(sku) = &out_of_stock {
        let refuse = sqlx::query("update orders set status = 'refused' where number = ?1");
        refuse.bind(number).execute(&mut *tx).await?;
        let event = OrderRefused { number, cart: cart.clone(), out_of_stock: sku.clone() };
        evented::emit_in(&mut tx, event).await?;
    }
    tx.commit().await?;

    // From here on mail, invoice and payment happen, whatever becomes of this process.
    evented::emit(OrderAnswered { accepted: out_of_stock.is_none(), total_cents: *total_cents }).await?;
    Ok(match out_of_stock {
        None => Placed::Accepted { number },
        Some(out_of_stock) => Placed::Refused { number, out_of_stock },
    })
}

/// Writes the order and answers its number, or `None` when that number is taken. Orders that come without one are
/// numbered from 1001.
async fn insert(tx: &mut SqliteConnection, order: &Order) -> evented::Result<Option<u32>> {
    let items = serde_json::to_string(&order.cart.items).expect("text and numbers can be written as JSON");
    let insert = sqlx::query_scalar(
        "insert into orders (number, email, items, total_cents, status)
         values (coalesce(?1, (select max(1000, coalesce(max(number), 0)) + 1 from orders)), ?2, ?3, ?4, 'accepted')
         on conflict (number) do nothing
         returning number",
    );
    let insert = insert.bind(order.number).bind(&order.cart.email).bind(items).bind(order.total_cents);
    Ok(insert.fetch_optional(tx).await?)
}

/// Why `reserve_stock` said no.
#[derive(Debug)]
pub struct OutOfStock {
    pub sku: String,
}

impl fmt::Display for OutOfStock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is out of stock", self.sku)
    }
}

impl std::error::Error for OutOfStock {}

/// The product that is missing, when that is what the error says; any other error is not the customer's.
fn sold_out(error: &evented::Error) -> Option<String> {
    let OutOfStock { sku } = error.source()?.downcast_ref()?;
    Some(sku.clone())
}
