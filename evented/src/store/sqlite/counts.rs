//! Counters of a handler's deliveries: what is stored, leased, done, retried and dead. Each change counts in its own commit, once
//! for each handler and not for each row; nothing reads all deliveries to tell them.
//!
//! Whoever changes deliveries by hand counts nothing. So a sweep counts again, where there are few enough to be read.

use std::collections::HashMap;

use sqlx::{Error as SqlxError, SqliteConnection, query};

/// Of so many deliveries it is counted again how many there are: the lock is held while they are read, which took 6 to 10 ms for twice
/// as many of 500 bytes.
const RECOUNTED: i64 = 5_000;

/// What a change adds to the counters, by the handler's number.
#[derive(Default)]
pub(super) struct Counts(HashMap<i64, Count>);

#[derive(Default, PartialEq)]
struct Count {
    stored: i64,
    running: i64,
    done: i64,
    retried: i64,
    dead: i64,
}

impl Counts {
    /// So many are leased that were not.
    pub fn leased(&mut self, handler: i64, deliveries: i64) {
        self.0.entry(handler).or_default().running += deliveries;
    }

    /// A leased one is done, and gone.
    pub fn done(&mut self, handler: i64) {
        self.gone(handler).done += 1;
    }

    /// A leased one is dead, and gone.
    pub fn dead(&mut self, handler: i64) {
        self.gone(handler).dead += 1;
    }

    /// A leased one waits again, after a failure.
    pub fn retried(&mut self, handler: i64) {
        let count = self.0.entry(handler).or_default();
        count.running -= 1;
        count.retried += 1;
    }

    fn gone(&mut self, handler: i64) -> &mut Count {
        let count = self.0.entry(handler).or_default();
        count.stored -= 1;
        count.running -= 1;
        count
    }

    /// Writes them, in the transaction of the change.
    pub async fn write(self, conn: &mut SqliteConnection) -> Result<(), SqlxError> {
        for (handler, count) in self.0.into_iter().filter(|(_, count)| *count != Count::default()) {
            query(
                "update evented_handlers set stored = stored + ?2, running = running + ?3, done = done + ?4,
                    retried = retried + ?5, dead = dead + ?6 where num = ?1",
            )
            .bind(handler)
            .bind(count.stored)
            .bind(count.running)
            .bind(count.done)
            .bind(count.retried)
            .bind(count.dead)
            .execute(&mut *conn)
            .await?;
        }
        Ok(())
    }
}

/// All deliveries with a higher number than this are stored that were not.
pub(super) async fn stored_after(conn: &mut SqliteConnection, last: i64) -> Result<(), SqlxError> {
    query(
        "update evented_handlers set stored = stored + n.new
         from (select d.handler, count(*) as new from evented_deliveries d where d.seq > ? group by d.handler) n
         where n.handler = num",
    )
    .bind(last)
    .execute(conn)
    .await?;
    Ok(())
}

/// Counts again what is stored and leased, where there is little of it.
pub(super) async fn recount(conn: &mut SqliteConnection) -> Result<(), SqlxError> {
    query(
        "with few as (select count(*) <= ?1 as are from (select 1 from evented_deliveries limit ?1 + 1)),
         counted as (
            select d.handler, count(*) as stored, count(d.lease) as running from evented_deliveries d
            where (select are from few) group by d.handler
         ),
         actual as (
            select n.num, ifnull(c.stored, 0) as stored, ifnull(c.running, 0) as running
            from evented_handlers n left join counted c on c.handler = n.num where (select are from few)
         )
         update evented_handlers set stored = a.stored, running = a.running from actual a
         where evented_handlers.num = a.num
            and (evented_handlers.stored <> a.stored or evented_handlers.running <> a.running)",
    )
    .bind(RECOUNTED)
    .execute(conn)
    .await?;
    Ok(())
}
