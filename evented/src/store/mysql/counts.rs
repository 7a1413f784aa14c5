//! What is counted: by handler, what is stored, leased, and was settled, in the commit that changes it.
//!
//! A row that every worker updates would let one commit at a time. So each commit appends what it changed, and that is added
//! to the handlers' own counters now and then, in small steps.

use std::{collections::BTreeMap, sync::Arc};

use sqlx::{Error as SqlxError, Executor as _, MySqlConnection, Row as _};

use super::{
    link::{Running, sql, write},
    sql::{numbers, text_literal},
};

/// How many rows are added up in one commit.
const ADD_UP_ROWS: i64 = 2_000;
/// Of so many deliveries at the most the counters are compared with the deliveries themselves.
const RECOUNT_ROWS: i64 = 10_000;

/// The columns that count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// Deliveries that are there.
    Stored,
    /// Those of them that are leased, or were when their worker died.
    Running,
    Done,
    Retried,
    Dead,
}

/// What a commit changes.
#[derive(Default)]
pub(super) struct Counts {
    by_number: BTreeMap<i64, [i64; 5]>,
    /// Stored ones of handlers whose number is not known here.
    by_name: BTreeMap<Arc<str>, i64>,
}

impl Counts {
    pub(super) fn add(&mut self, handler: i64, counted: Counted, number: i64) {
        self.by_number.entry(handler).or_default()[counted as usize] += number;
    }

    /// A delivery of the handler of this name was stored.
    pub(super) fn stored(&mut self, handler: &Arc<str>) {
        match self.by_name.get_mut(handler) {
            Some(number) => *number += 1,
            None => drop(self.by_name.insert(Arc::clone(handler), 1)),
        }
    }

    /// How many rows it is.
    pub(super) fn rows(&self) -> u64 {
        (self.by_number.len() + self.by_name.len()) as u64
    }

    /// The statements that write it, to follow others in one text: a round trip for itself it would not be worth.
    pub(super) fn statements(&self) -> Vec<String> {
        let mut statements = Vec::new();
        // Values alone: rows of a `select` would hold the table's next number until the statement's end.
        let numbered = self.by_number.iter().map(|(handler, [stored, running, done, retried, dead])| {
            format!("({handler},{stored},{running},{done},{retried},{dead})")
        });
        let named = self.by_name.iter().map(|(name, stored)| {
            format!("((select num from evented_handlers where id = {}),{stored},0,0,0,0)", text_literal(name))
        });
        let rows: Vec<_> = numbered.chain(named).collect();
        if !rows.is_empty() {
            statements.push(format!(
                "insert into evented_counts (handler, kept, running, done, retried, dead) values {}",
                rows.join(",")
            ));
        }
        statements
    }
}

/// Runs statements without values in one round trip.
pub(super) async fn write_all(conn: &mut MySqlConnection, statements: Vec<String>) -> Result<(), SqlxError> {
    if !statements.is_empty() {
        write(conn, statements.join(";")).await?;
    }
    Ok(())
}

/// Adds what was counted to the handlers' own counters: one step, after which there may be more. Who comes while another
/// does it finds other rows, or none.
pub(super) fn add_up<'a>(conn: &'a mut MySqlConnection, (): &'a ()) -> Running<'a, bool> {
    Box::pin(async move {
        let rows =
            sql("select num, handler, kept, running, done, retried, dead from evented_counts order by num limit ?
             for update skip locked")
            .bind(ADD_UP_ROWS)
            .fetch_all(&mut *conn)
            .await?;
        let mut sums: BTreeMap<i32, [i64; 5]> = BTreeMap::new();
        let mut taken: Vec<i64> = Vec::new();
        for row in &rows {
            taken.push(row.try_get(0)?);
            for (column, sum) in sums.entry(row.try_get(1)?).or_default().iter_mut().enumerate() {
                *sum += row.try_get::<i64, _>(2 + column)?;
            }
        }
        let mut statements = Vec::new();
        for (handler, [stored, running, done, retried, dead]) in sums {
            statements.push(format!(
                "update evented_handlers set kept = kept + {stored}, running = running + {running},
                    done = done + {done}, retried = retried + {retried}, dead = dead + {dead}
                 where num = {handler}"
            ));
        }
        if !taken.is_empty() {
            statements.push(format!("delete from evented_counts where num in ({})", numbers(taken.iter().copied())));
        }
        write_all(conn, statements).await?;
        Ok(i64::try_from(taken.len()).is_ok_and(|taken| taken == ADD_UP_ROWS))
    })
}

/// Compares the counters with few deliveries, and sets right what differs: somebody may have deleted some by hand.
pub(super) fn recount_few<'a>(conn: &'a mut MySqlConnection, (): &'a ()) -> Running<'a, ()> {
    Box::pin(async move {
        let few = sql("select count(*) from (select 1 from evented_deliveries limit ?) few").bind(RECOUNT_ROWS + 1);
        if few.fetch_one(&mut *conn).await?.try_get::<i64, _>(0)? <= RECOUNT_ROWS {
            recount(conn).await?;
        }
        Ok(())
    })
}

/// Compares the counters with the deliveries themselves, in one view of the database: what a commit stores and what it counts
/// are there both or neither. One at a time, in a transaction that it begins.
pub(super) async fn recount(conn: &mut MySqlConnection) -> Result<(), SqlxError> {
    // The view is taken by the first statement that locks nothing: after whoever was before.
    conn.execute(
        "set transaction isolation level repeatable read; start transaction; select id from evented_schema for update",
    )
    .await?;
    let rows = sql("select cast(h.num as signed),
            cast(coalesce(d.kept, 0) - h.kept - coalesce(c.kept, 0) as signed),
            cast(coalesce(d.running, 0) - h.running - coalesce(c.running, 0) as signed)
         from evented_handlers h
         left join (select handler, count(*) as kept, sum(lease is not null) as running
            from evented_deliveries group by handler) d on d.handler = h.num
         left join (select handler, sum(kept) as kept, sum(running) as running
            from evented_counts group by handler) c on c.handler = h.num")
    .fetch_all(&mut *conn)
    .await?;
    let mut counts = Counts::default();
    for row in &rows {
        let (handler, stored, running): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if stored != 0 || running != 0 {
            counts.add(handler, Counted::Stored, stored);
            counts.add(handler, Counted::Running, running);
        }
    }
    write_all(conn, counts.statements()).await
}
