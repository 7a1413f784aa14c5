//! Storing deliveries.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
};

use sqlx::{AssertSqlSafe, Error as SqlxError, Executor as _, MySqlConnection, Row as _, query};

use crate::{
    id::{DeliveryId, LeaseToken},
    store::{NewDelivery, ONCE_FINISHED, ONCE_RETENTION, Push, Pushed},
    time,
};

use super::{
    catalogue::generation_and_now,
    counts::{Counted, Counts, write_all},
    keys,
    link::{NO_SUCH_TABLE, Running, code, read, write},
    sql::{NEVER, STEP, backoff_columns, delivery_id, hex, id_bytes, ids, list, now_ms, sorted},
};

/// How many rows one insert has. Few shapes, so that each is prepared once.
const SHAPES: [usize; 3] = [64, 8, 1];
/// At most so many bytes of payloads in one insert, unless a single one has more: a server takes no more than its
/// `max_allowed_packet`, which is many megabytes, but where somebody has said otherwise often a single one.
const BYTES_MAX: usize = 512 << 10;

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
             on duplicate key update again = ?"
        )
        .into()
    })
});

const _: () = assert!(NEVER == 9_223_372_036_854_775_807, "as `INSERTS` has it");

/// Stores a push, if it was planned from the catalogue as it is. Answers also how many rows of counts that has left.
pub(super) fn push<'a>(conn: &'a mut MySqlConnection, push: &'a Push) -> Running<'a, (Pushed, u64)> {
    Box::pin(async move {
        match store(conn, push).await {
            // Dropped, and made again as soon as somebody reads the catalogue.
            Err(error) if code(&error) == Some(NO_SUCH_TABLE) => {
                conn.execute("rollback").await?;
                Ok((Pushed::CatalogueMoved, 0))
            }
            pushed => pushed,
        }
    })
}

async fn store(conn: &mut MySqlConnection, push: &Push) -> Result<(Pushed, u64), SqlxError> {
    let (generation, now) = generation_and_now(conn).await?;
    if generation != push.generation {
        return Ok((Pushed::CatalogueMoved, 0));
    }
    if push.until.is_some_and(|until| until < now) {
        return Ok((Pushed::TooLate, 0));
    }
    let mut counts = Counts::default();
    let repeated = if push.once { remember(conn, &push.deliveries).await? } else { HashSet::new() };
    let new = push.deliveries.iter().filter(|delivery| !repeated.contains(&delivery.id)).collect();
    let mut stored = insert(conn, new, &mut counts).await?;
    finish(conn, &push.finished).await?;
    write_all(conn, counts.statements()).await?;
    if let Some(until) = push.until {
        // This process may have stood still in between.
        let (_, now) = generation_and_now(conn).await?;
        if until < now {
            conn.execute("rollback").await?;
            return Ok((Pushed::TooLate, 0));
        }
    }
    let not_stored = if stored.len() == push.deliveries.len() {
        Vec::new()
    } else {
        push.deliveries.iter().map(|delivery| delivery.id).filter(|id| !stored.remove(id)).collect()
    };
    Ok((Pushed::Stored(not_stored), counts.rows()))
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

/// Inserts deliveries, those excepted whose unique key another has; answers which were not there already.
pub(super) async fn insert(
    conn: &mut MySqlConnection,
    mut deliveries: Vec<&NewDelivery>,
    counts: &mut Counts,
) -> Result<HashSet<DeliveryId>, SqlxError> {
    let mut stored = HashSet::new();
    deliveries.retain(|delivery| stored.insert(delivery.id));
    let deliveries = keys::take_unique(conn, deliveries).await?;
    if deliveries.len() < stored.len() {
        stored = deliveries.iter().map(|delivery| delivery.id).collect();
    }
    let order: Vec<_> = deliveries.iter().filter_map(|delivery| delivery.order).map(crate::id::Key::to_bytes).collect();
    // From here until the commit nobody else stores or ends a delivery of these keys.
    keys::lock(conn, &order).await?;
    let mut rest = &deliveries[..];
    // One that is there already is noted by it, and counted twice by the server.
    let again = LeaseToken::mint().to_i64();
    let mut found = 0;
    while !rest.is_empty() {
        let shape = (0..SHAPES.len()).find(|shape| fits(rest, SHAPES[*shape])).unwrap_or(SHAPES.len() - 1);
        let (chunk, after) = rest.split_at(SHAPES[shape]);
        let mut insert = query(AssertSqlSafe(Arc::clone(&INSERTS[shape])));
        for delivery in chunk {
            insert = bind(insert, delivery);
        }
        found += insert.bind(again).execute(&mut *conn).await?.rows_affected();
        rest = after;
    }
    for delivery in &deliveries {
        counts.stored(&delivery.handler);
    }
    if found > deliveries.len() as u64 {
        let there = there_already(conn, deliveries.iter().map(|delivery| delivery.id), again, counts).await?;
        stored.retain(|id| !there.contains(id));
    }
    keys::let_heads_go(conn, &order).await?;
    Ok(stored)
}

/// Takes from what is counted as stored the deliveries that were there already; answers them.
pub(super) async fn there_already(
    conn: &mut MySqlConnection,
    deliveries: impl Iterator<Item = DeliveryId>,
    again: i64,
    counts: &mut Counts,
) -> Result<HashSet<DeliveryId>, SqlxError> {
    let asked: Vec<_> = deliveries.map(DeliveryId::to_bytes).collect();
    let text = format!(
        "select cast(handler as signed), id from evented_deliveries where id in ({}) and again = {again}",
        ids(&asked)
    );
    let mut there = HashSet::new();
    for row in read(conn, text).await? {
        counts.add(row.try_get(0)?, Counted::Stored, -1);
        there.insert(delivery_id(row.try_get(1)?)?);
    }
    Ok(there)
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

/// Lets what is finished be remembered for a while only, and forgets marks whose time is over: up to twice as many.
async fn finish(conn: &mut MySqlConnection, finished: &[DeliveryId]) -> Result<(), SqlxError> {
    if finished.is_empty() {
        return Ok(());
    }
    let finished = sorted(finished.iter().map(|delivery| delivery.to_bytes()));
    let (retention, rest) = (time::millis(ONCE_RETENTION), time::millis(ONCE_RETENTION.saturating_sub(ONCE_FINISHED)));
    for some in finished.chunks(STEP) {
        let most = 2 * some.len();
        let text = format!(
            concat!(
                "update evented_once force index (primary) set at = least(at, ",
                now_ms!(),
                " - {}) where id in ({})"
            ),
            rest,
            ids(some)
        );
        write(conn, text).await?;
        // Those that another push deletes are passed by.
        let text = format!(
            concat!(
                "select id from evented_once force index (evented_once_at) where at < ",
                now_ms!(),
                " - {} order by at limit {} for update skip locked"
            ),
            retention, most
        );
        let over = read(conn, text).await?;
        if !over.is_empty() {
            let over = over.iter().map(|row| id_bytes(row.try_get(0)?)).collect::<Result<Vec<_>, _>>()?;
            write(conn, format!("delete from evented_once where id in ({})", ids(&sorted(over)))).await?;
        }
    }
    Ok(())
}
