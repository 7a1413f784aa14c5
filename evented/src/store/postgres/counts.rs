//! What was counted: left by each commit in a row of its own, and added to the handlers' counters now and then.

use std::collections::BTreeMap;

use sqlx::{Error as SqlxError, Row as _};

use super::link::Session;

/// What is counted of each handler: done, retried, dead, stored, running.
pub(super) type Counts = BTreeMap<i32, [i64; 5]>;

/// Leaves what was counted, to be added up later.
pub(super) async fn count(session: &mut Session, counts: &Counts) -> Result<(), SqlxError> {
    if counts.is_empty() {
        return Ok(());
    }
    let column = |at: usize| counts.values().map(|counts| counts[at]).collect::<Vec<_>>();
    session
        .sql(
            "insert into evented_counts (handler, done, retried, dead, stored, running)
             select * from unnest($1::int4[], $2::int8[], $3::int8[], $4::int8[], $5::int8[], $6::int8[])",
        )
        .bind(counts.keys().copied().collect::<Vec<_>>())
        .bind(column(0))
        .bind(column(1))
        .bind(column(2))
        .bind(column(3))
        .bind(column(4))
        .execute(&mut session.conn)
        .await?;
    Ok(())
}

/// At most so many rows of counts are added up at once.
const ADD_UP_ROWS: i64 = 4_000;

/// Adds what was counted to the handlers' own counters, and answers whether there may be more. Who comes while another does it
/// finds nothing to do.
pub(super) async fn add_up(session: &mut Session) -> Result<bool, SqlxError> {
    let row = session
        .sql(
            "with taken as (
                delete from evented_counts where num = any(array(
                    select num from evented_counts order by num limit $1 for update skip locked))
                returning handler, done, retried, dead, stored, running
             ),
             sums as materialized (
                select handler, sum(done)::int8 as done, sum(retried)::int8 as retried, sum(dead)::int8 as dead,
                    sum(stored)::int8 as stored, sum(running)::int8 as running
                from taken group by handler order by handler
             ),
             added as (
                update evented_handlers h set done = h.done + s.done, retried = h.retried + s.retried,
                    dead = h.dead + s.dead, stored = h.stored + s.stored, running = h.running + s.running
                from sums s where h.num = s.handler
             )
             select count(*) from taken",
        )
        .bind(ADD_UP_ROWS)
        .fetch_one(&mut session.conn)
        .await?;
    Ok(row.try_get::<i64, _>(0)? == ADD_UP_ROWS)
}
