//! Order keys and unique keys.
//!
//! Who stores or ends a delivery with an order key holds the key's row from before until its commit, so that all who do
//! come one after the other, each with what the one before it left in sight. Stored deliveries of a key wait for never;
//! before the commit the first of each key is given its time. A claim needs no lock: only the first is ever due.

use std::collections::{HashMap, HashSet};

use sqlx::{Error as SqlxError, MySqlConnection, Row as _};

use crate::{id::any_key, store::NewDelivery, time};

use super::{
    link::{Running, read, write},
    sql::{NEVER, hex, id_bytes, ids, list, now_ms, numbers, sorted},
};

/// Holds these order keys until the transaction ends.
pub(super) async fn lock(conn: &mut MySqlConnection, keys: &[[u8; 16]]) -> Result<(), SqlxError> {
    if keys.is_empty() {
        return Ok(());
    }
    // One that is there is held as the insert holds it. In one order, so that two who hold several wait for each other and
    // not in a ring.
    let rows = list(sorted(keys).into_iter().map(|key| format!("({})", hex(*key))));
    let text = format!(
        "insert into evented_order_keys (order_key) values {rows} on duplicate key update order_key = values(order_key)"
    );
    write(conn, text).await?;
    Ok(())
}

/// Holds the order keys of these deliveries until the transaction ends; answers them.
pub(super) async fn lock_of(conn: &mut MySqlConnection, rows: &[i64]) -> Result<Vec<[u8; 16]>, SqlxError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let text = format!(
        "select distinct order_key from evented_deliveries where seq in ({}) and order_key is not null",
        numbers(rows.iter().copied())
    );
    let found = read(conn, text).await?;
    let keys = found.iter().map(|row| id_bytes(row.try_get(0)?)).collect::<Result<Vec<_>, _>>()?;
    lock(conn, &keys).await?;
    Ok(keys)
}

/// Gives the first delivery of each key its time, and forgets keys without one. The keys are held.
pub(super) async fn let_heads_go(conn: &mut MySqlConnection, keys: &[[u8; 16]]) -> Result<(), SqlxError> {
    if keys.is_empty() {
        return Ok(());
    }
    // Each read with a view of its own, newer than the lock on the keys.
    let text = format!(
        "select order_key, min(seq) from evented_deliveries where order_key in ({}) group by order_key",
        ids(keys)
    );
    let mut heads = Vec::new();
    let mut vacant: HashSet<[u8; 16]> = keys.iter().copied().collect();
    for row in read(conn, text).await? {
        vacant.remove(&id_bytes(row.try_get(0)?)?);
        heads.push(row.try_get(1)?);
    }
    if !heads.is_empty() {
        let text = format!(
            "update evented_deliveries set due_at = own_due_at where seq in ({}) and due_at = {NEVER}",
            numbers(heads)
        );
        write(conn, text).await?;
    }
    if !vacant.is_empty() {
        let text = format!("delete from evented_order_keys where order_key in ({})", ids(&sorted(vacant)));
        write(conn, text).await?;
    }
    Ok(())
}

/// Of so many order keys a sweep looks whether their first delivery may go.
const KEYS_LOOKED_AT: usize = 500;

/// Lets the first delivery of an order key go where the one before it was deleted by hand. Each time some keys are looked at, from
/// any of them on and round.
pub(super) fn let_lost_heads_go<'a>(conn: &'a mut MySqlConnection, (): &'a ()) -> Running<'a, ()> {
    Box::pin(async move {
        let text = format!(
            "with recursive walk(order_key, number) as (
                select {}, 0
                union all
                select coalesce(
                    (select min(d.order_key) from evented_deliveries d where d.order_key > walk.order_key),
                    (select min(d.order_key) from evented_deliveries d)), number + 1
                from walk where walk.order_key is not null and number < {KEYS_LOOKED_AT}
             )
             select distinct s.order_key from walk s join evented_deliveries h
                on h.seq = (select min(d.seq) from evented_deliveries d where d.order_key = s.order_key)
             where h.due_at = {NEVER}",
            hex(any_key().to_bytes())
        );
        let rows = read(conn, text).await?;
        let keys = rows.iter().map(|row| id_bytes(row.try_get(0)?)).collect::<Result<Vec<_>, _>>()?;
        lock(conn, &keys).await?;
        let_heads_go(conn, &keys).await
    })
}

/// The deliveries that may be stored under their unique keys: no other has had them lately.
pub(super) async fn take_unique<'d>(
    conn: &mut MySqlConnection,
    deliveries: Vec<&'d NewDelivery>,
) -> Result<Vec<&'d NewDelivery>, SqlxError> {
    if deliveries.iter().all(|delivery| delivery.unique.is_none()) {
        return Ok(deliveries);
    }
    // One that is there already is left as it is, and its key too: its time counts from when it was stored.
    let asked: Vec<_> =
        deliveries.iter().filter(|delivery| delivery.unique.is_some()).map(|delivery| delivery.id.to_bytes()).collect();
    let there = read(conn, format!("select id from evented_deliveries where id in ({})", ids(&asked))).await?;
    let there = there.iter().map(|row| id_bytes(row.try_get(0)?)).collect::<Result<HashSet<_>, _>>()?;
    // Of several in one batch the first may have the key.
    let mut first = HashMap::new();
    for delivery in deliveries.iter().filter(|delivery| !there.contains(&delivery.id.to_bytes())) {
        if let Some(unique) = delivery.unique {
            first.entry(unique.key.to_bytes()).or_insert((delivery.id.to_bytes(), time::delay_ms(unique.within)));
        }
    }
    let mut holders: HashMap<[u8; 16], [u8; 16]> = HashMap::new();
    if !first.is_empty() {
        let row = |(key, (id, within)): ([u8; 16], ([u8; 16], i64))| {
            format!(concat!("({},{},", now_ms!(), " + {})"), hex(key), hex(id), within)
        };
        let keys: Vec<_> = first.keys().copied().collect();
        // The delivery is decided on before the time, which decides: assignments go from left to right, each with what the
        // one before it left.
        let text = format!(
            concat!(
                "insert into evented_unique (unique_key, delivery, until_ms) values {} on duplicate key update
                    delivery = if(until_ms <= ",
                now_ms!(),
                ", values(delivery), delivery), until_ms = if(until_ms <= ",
                now_ms!(),
                ", values(until_ms), until_ms)"
            ),
            list(sorted(first).into_iter().map(row))
        );
        write(conn, text).await?;
        // The rows are held now, also those that another has had lately. Whose delivery stands there may be stored, and stored
        // again: a push that is repeated does not stand in its own way.
        let text = format!("select unique_key, delivery from evented_unique where unique_key in ({})", ids(&keys));
        for row in read(conn, text).await? {
            holders.insert(id_bytes(row.try_get(0)?)?, id_bytes(row.try_get(1)?)?);
        }
    }
    let may = |delivery: &&NewDelivery| {
        delivery.unique.is_none_or(|unique| holders.get(&unique.key.to_bytes()) == Some(&delivery.id.to_bytes()))
    };
    Ok(deliveries.into_iter().filter(may).collect())
}
