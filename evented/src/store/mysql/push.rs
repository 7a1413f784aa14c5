//! Storing deliveries.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
};

use sqlx::{AssertSqlSafe, Error as SqlxError, MySqlConnection, Row as _, query};

use crate::{
    id::{DeliveryId, LeaseToken},
    store::{NewDelivery, Push, Pushed},
    time,
};

use super::{
    catalogue::generation,
    keys,
    link::{Running, read, write},
    sql::{NEVER, backoff_columns, delivery_id, hex, ids, list, now_ms, sorted},
};

/// How many rows one insert has. Few shapes, so that each is prepared once.
const SHAPES: [usize; 3] = [64, 8, 1];
/// At most so many bytes of payloads in one insert, unless a single one has more: a server takes no more than its
/// `max_allowed_packet`, 16 MB where nobody has said.
const BYTES_MAX: usize = 4 << 20;

static INSERTS: LazyLock<[Arc<str>; 3]> = LazyLock::new(|| {
    SHAPES.map(|rows| {
        let row = concat!(
            "((select num from evented_handlers where id = ?), ?, ?, if(?, ",
            now_ms!(),
            " + ?, 9223372036854775807), if(?, null, ",
            now_ms!(),
            " + ?), ?, ?, ?, ?, ?, coalesce(?, ",
            now_ms!(),
            "), ?, ?, ?)"
        );
        let rows = vec![row; rows].join(", ");
        format!(
            "insert into evented_deliveries (handler, id, event_id, due_at, own_due_at, attempts_max, backoff_first_ms, \
             backoff_max_ms, timeout_ms, version, emitted_at, correlation, order_key, payload) values {rows} \
             on duplicate key update id = values(id)"
        )
        .into()
    })
});

const _: () = assert!(NEVER == 9_223_372_036_854_775_807, "as `INSERTS` has it");

/// Stores a push, if it was planned from the catalogue as it is.
pub(super) fn push<'a>(conn: &'a mut MySqlConnection, push: &'a Push) -> Running<'a, Pushed> {
    Box::pin(async move {
        if generation(conn).await? != push.generation {
            return Ok(Pushed::CatalogueMoved);
        }
        let repeated = if push.once { remember(conn, &push.deliveries).await? } else { HashSet::new() };
        insert(conn, push.deliveries.iter().filter(|delivery| !repeated.contains(&delivery.id)).collect()).await?;
        Ok(Pushed::Stored)
    })
}

/// Remembers deliveries whose push may be repeated; answers those that were remembered before.
async fn remember(conn: &mut MySqlConnection, deliveries: &[NewDelivery]) -> Result<HashSet<DeliveryId>, SqlxError> {
    // In one order, so that two who repeat the same push wait for each other and not in a ring.
    let asked = sorted(deliveries.iter().map(|delivery| delivery.id.to_bytes()));
    if asked.is_empty() {
        return Ok(HashSet::new());
    }
    let push = LeaseToken::mint().to_i64();
    let rows = list(asked.iter().map(|id| format!(concat!("({},{},", now_ms!(), ")"), hex(*id), push)));
    write(
        conn,
        format!("insert into evented_once (id, push, at) values {rows} on duplicate key update id = values(id)"),
    )
    .await?;
    let text = format!("select id from evented_once where id in ({}) and push <> {push}", ids(&asked));
    read(conn, text).await?.iter().map(|row| delivery_id(row.try_get(0)?)).collect()
}

/// Inserts deliveries, those excepted whose unique key another has.
pub(super) async fn insert(conn: &mut MySqlConnection, deliveries: Vec<&NewDelivery>) -> Result<(), SqlxError> {
    let deliveries = keys::take_unique(conn, deliveries).await?;
    let order: Vec<_> = deliveries.iter().filter_map(|delivery| delivery.order).map(crate::id::Key::to_bytes).collect();
    // From here until the commit nobody else stores or ends a delivery of these keys.
    keys::lock(conn, &order).await?;
    let mut rest = &deliveries[..];
    while !rest.is_empty() {
        let shape = (0..SHAPES.len()).find(|shape| fits(rest, SHAPES[*shape])).unwrap_or(SHAPES.len() - 1);
        let (chunk, after) = rest.split_at(SHAPES[shape]);
        let mut insert = query(AssertSqlSafe(Arc::clone(&INSERTS[shape])));
        for delivery in chunk {
            insert = bind(insert, delivery);
        }
        insert.execute(&mut *conn).await?;
        rest = after;
    }
    keys::let_heads_go(conn, &order).await
}

fn fits(deliveries: &[&NewDelivery], rows: usize) -> bool {
    let chunk = deliveries.get(..rows);
    chunk.is_some_and(|chunk| chunk.iter().map(|delivery| delivery.payload.len()).sum::<usize>() <= BYTES_MAX)
}

type Insert<'q> = sqlx::query::Query<'q, sqlx::MySql, sqlx::mysql::MySqlArguments>;

/// Binds one row of `INSERTS`. One with an order key waits, until it is let go.
fn bind<'q>(insert: Insert<'q>, delivery: &'q NewDelivery) -> Insert<'q> {
    let (backoff_first, backoff_max) = backoff_columns(delivery.policy.backoff);
    let (plain, delay) = (delivery.order.is_none(), time::delay_ms(delivery.delay));
    insert
        .bind(&*delivery.handler)
        .bind(delivery.id.to_bytes().to_vec())
        .bind(delivery.event_id.to_bytes().to_vec())
        .bind(plain)
        .bind(delay)
        .bind(plain)
        .bind(delay)
        .bind(i64::from(delivery.policy.attempts_max))
        .bind(backoff_first)
        .bind(backoff_max)
        .bind(time::millis(delivery.policy.timeout))
        .bind(i64::from(delivery.version))
        .bind(delivery.emitted_unix_ms)
        .bind(delivery.origin.to_bytes(delivery.event_id))
        .bind(delivery.order.map(|key| key.to_bytes().to_vec()))
        .bind(&*delivery.payload)
}

pub(super) fn forget<'a>(conn: &'a mut MySqlConnection, deliveries: &'a [DeliveryId]) -> Running<'a, ()> {
    Box::pin(async move {
        let forgotten = sorted(deliveries.iter().map(|delivery| delivery.to_bytes()));
        write(conn, format!("delete from evented_once where id in ({})", ids(&forgotten))).await?;
        Ok(())
    })
}
