//! Order keys and unique keys.
//!
//! Who stores or ends a delivery with an order key holds the key's row from before until its commit, so that all who do
//! come one after the other, each with what the one before it left in sight. Stored deliveries of a key wait for never;
//! before the commit the first of each key is given its time. A claim needs no lock: only the first is ever due.

use std::collections::{HashMap, HashSet};

use sqlx::{Error as SqlxError, Row as _};

use crate::{id::any_key, store::NewDelivery, time};

use super::{link::Session, sql};

/// Holds these order keys until the transaction ends.
pub(super) async fn lock(session: &mut Session, keys: &[[u8; 16]]) -> Result<(), SqlxError> {
    if keys.is_empty() {
        return Ok(());
    }
    // One that is there is updated in place, which holds it as the insert does. In one order, so that two who hold several
    // wait for each other and not in a ring.
    session
        .sql(
            "insert into evented_order_keys (key) select key from unnest($1::bytea[]) key
             on conflict (key) do update set key = excluded.key",
        )
        .bind(sql::sorted(keys.iter().copied()))
        .execute(&mut session.conn)
        .await?;
    Ok(())
}

/// Holds the order keys of deliveries; answers them.
pub(super) const LOCK_OF: &str = "insert into evented_order_keys (key)
     select distinct d.order_key from evented_deliveries d
     where d.id = any($1::bytea[]) and d.order_key is not null order by d.order_key
     on conflict (key) do update set key = excluded.key returning key";

/// Gives the first delivery of each key its time, and forgets keys without one.
pub(super) const LET_HEADS_GO: &str = "with vacant as (
        delete from evented_order_keys k
        where k.key = any($1::bytea[])
            and (select d.seq from evented_deliveries d where d.order_key = k.key limit 1) is null
     )
     update evented_deliveries d set due_at = d.own_due_at
     where d.due_at = 9223372036854775807 and d.id = any(array(
        select h.id from unnest($1::bytea[]) k(key) cross join lateral (
            select d.id from evented_deliveries d where d.order_key = k.key order by d.seq limit 1) h))";

/// Holds the order keys of these deliveries until the transaction ends; answers them.
pub(super) async fn lock_of(session: &mut Session, ids: &[[u8; 16]]) -> Result<Vec<[u8; 16]>, SqlxError> {
    let rows = session.sql(LOCK_OF).bind(ids).fetch_all(&mut session.conn).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Gives the first delivery of each key its time, and forgets keys without one. The keys are held.
pub(super) async fn let_heads_go(session: &mut Session, keys: &[[u8; 16]]) -> Result<(), SqlxError> {
    if keys.is_empty() {
        return Ok(());
    }
    session.sql(LET_HEADS_GO).bind(keys).execute(&mut session.conn).await?;
    Ok(())
}

/// Of order keys, from `$1` on and round, those whose first delivery waits for one that is not there.
const LOST_HEADS: &str = "with recursive walk(key) as (
        select $1::bytea
        union
        select coalesce(
            (select d.order_key from evented_deliveries d where d.order_key > walk.key order by d.order_key limit 1),
            (select d.order_key from evented_deliveries d where d.order_key is not null order by d.order_key limit 1))
        from walk where walk.key is not null
    )
    select s.key from (select key from walk limit 1000) s cross join lateral (
        select d.due_at from evented_deliveries d where d.order_key = s.key order by d.seq limit 1) h
    where h.due_at = 9223372036854775807";

/// Lets the first delivery of an order key go where the one before it was deleted by hand. Each time some keys are looked at, from
/// any of them on and round.
pub(super) async fn let_lost_heads_go(session: &mut Session) -> Result<(), SqlxError> {
    let rows = session.sql(LOST_HEADS).bind(any_key().to_bytes()).fetch_all(&mut session.conn).await?;
    let keys = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<[u8; 16]>, _>>()?;
    lock(session, &keys).await?;
    let_heads_go(session, &keys).await
}

/// The deliveries that may be stored under their unique keys: no other has had them lately.
pub(super) async fn take_unique<'d>(
    session: &mut Session,
    deliveries: Vec<&'d NewDelivery>,
) -> Result<Vec<&'d NewDelivery>, SqlxError> {
    let ids: Vec<_> = deliveries.iter().filter(|delivery| delivery.unique.is_some()).map(|d| d.id.to_bytes()).collect();
    if ids.is_empty() {
        return Ok(deliveries);
    }
    // One that is stored already is left as it is, and so is the time of its key.
    let there = session
        .sql("select id from evented_deliveries where id = any($1::bytea[])")
        .bind(&ids)
        .fetch_all(&mut session.conn)
        .await?;
    let there = there.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<[u8; 16]>, _>>()?;
    // Of several in one batch the first may have the key.
    let mut first = HashMap::new();
    for delivery in deliveries.iter().filter(|delivery| !there.contains(&delivery.id.to_bytes())) {
        if let Some(unique) = delivery.unique {
            first.entry(unique.key.to_bytes()).or_insert((delivery.id.to_bytes(), time::delay_ms(unique.within)));
        }
    }
    let asked = sql::sorted(first.iter().map(|(key, (id, within))| (*key, *id, *within)));
    let keys: Vec<_> = asked.iter().map(|(key, ..)| *key).collect();
    session
        .sql(concat!(
            "with clock as materialized (select ",
            sql::now_ms!(),
            " as ms)
             insert into evented_unique as u (key, delivery, until)
             select a.key, a.delivery, (select ms from clock) + a.within
             from unnest($1::bytea[], $2::bytea[], $3::int8[]) a(key, delivery, within)
             on conflict (key) do update set delivery = excluded.delivery, until = excluded.until
             where u.until <= (select ms from clock)"
        ))
        .bind(&keys)
        .bind(asked.iter().map(|(_, id, _)| *id).collect::<Vec<_>>())
        .bind(asked.iter().map(|(.., within)| *within).collect::<Vec<_>>())
        .execute(&mut session.conn)
        .await?;
    // The rows are held now, also those that another has had lately. Whose delivery stands there may be stored, and stored
    // again: a push that is repeated does not stand in its own way.
    let rows = session
        .sql("select key, delivery from evented_unique where key = any($1::bytea[])")
        .bind(&keys)
        .fetch_all(&mut session.conn)
        .await?;
    let mut holders: HashMap<[u8; 16], [u8; 16]> = HashMap::new();
    for row in rows {
        holders.insert(row.try_get(0)?, row.try_get(1)?);
    }
    let may = |delivery: &&NewDelivery| {
        delivery.unique.is_none_or(|unique| holders.get(&unique.key.to_bytes()) == Some(&delivery.id.to_bytes()))
    };
    Ok(deliveries.into_iter().filter(may).collect())
}
