//! The outbox: rows written in the application's transactions, and what becomes of them after a turn of the relay.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sqlx::{Error as SqlxError, MySqlConnection, Row as _, mysql::MySqlRow, query};

use crate::{
    error::{Error, ErrorKind},
    id::{DeliveryId, LeaseToken},
    store::{
        Feed, INBOX_RETENTION, INBOX_SETTLED, Identity, OutboxRow, PutBack,
        tx::{NewRow, Statement, Value},
    },
    time,
};

use super::{
    counts::write_all,
    identity::identity,
    link::{NO_SUCH_TABLE, NULL, Running, code, read, sql, write},
    schema::ID_MAX,
    sql::{STEP, hex, id_bytes, ids, now_ms, numbers, sorted, text_literal},
};

/// How long the inbox remembers: longer than deliveries are run, by a day, since clocks differ.
pub(super) const INBOX_KEPT: Duration = INBOX_RETENTION.saturating_add(Duration::from_hours(24));
/// Of how many order keys one statement asks.
const KEYS_MAX: usize = 64;

/// Inserts one row; an event that is there already is left as it is, which is no error and leaves the transaction as it was.
///
/// In another database than the outbox's, the identity there is another: the row has no time then, which the table refuses.
const INSERT: &str = concat!(
    "insert into evented_outbox (event_id, event, due_at, version, emitted_at, correlation, payload)
     values (?, ?, if(? = 0, 0, ",
    now_ms!(),
    " + ?), ?, if((select ",
    identity!(),
    " from evented_identity) = ?, ",
    now_ms!(),
    ", null), ?, ?) on duplicate key update event_id = values(event_id)"
);

/// The row as a statement: evented's own, and one for a transaction of another library.
pub(super) fn statement(row: &NewRow) -> Statement {
    let values = vec![
        Value::Bytes(Some(row.event_id.to_bytes().to_vec())),
        Value::Text(Some(row.event.to_owned())),
        Value::Integer(Some(time::delay_ms(row.delay))),
        Value::Integer(Some(time::delay_ms(row.delay))),
        Value::Integer(Some(row.version.into())),
        Value::Text(Some(row.outbox.to_string())),
        Value::Bytes(row.origin.to_bytes(row.event_id)),
        Value::Bytes(Some(row.payload.to_vec())),
    ];
    Statement::new(INSERT, values)
}

pub(super) async fn run(conn: &mut MySqlConnection, statement: &Statement) -> Result<u64, SqlxError> {
    let bound = statement.values().iter().fold(query(statement.sql()), |query, value| match value {
        Value::Bytes(bytes) => query.bind(bytes.as_deref()),
        Value::Text(text) => query.bind(text.as_deref()),
        Value::Integer(number) => query.bind(*number),
    });
    Ok(bound.execute(conn).await?.rows_affected())
}

/// Inserts a row in the caller's transaction.
pub(super) async fn insert_row(conn: &mut MySqlConnection, row: &NewRow) -> Result<(), Error> {
    if row.event.chars().count() > ID_MAX {
        // A session that is not strict would cut it.
        let text = format!("the event's id has more than {ID_MAX} characters, which MySQL cannot keep unique");
        return Err(Error::new(ErrorKind::Unstorable, text));
    }
    let Err(error) = run(conn, &statement(row)).await else { return Ok(()) };
    if !is_elsewhere(&error) {
        return Err(match explain(&error) {
            Some(explained) => explained.because(error),
            None => error.into(),
        });
    }
    let database: Option<String> = sql("select database()").fetch_one(conn).await?.try_get(0)?;
    Err(elsewhere(&format!("the database `{}`", database.unwrap_or_default())).because(error))
}

/// The transaction is read only.
const READ_ONLY: u16 = 1792;

/// What the failure of the statement means.
pub(super) fn explain(error: &SqlxError) -> Option<Error> {
    if code(error) == Some(READ_ONLY) {
        let text = "the transaction is read only, so no event can be emitted in it; begin it with `evented::begin(&pool)`, or as \
                    `start transaction read write`";
        return Some(Error::new(ErrorKind::Database, text));
    }
    is_elsewhere(error).then(|| elsewhere("another database"))
}

/// In another database the table is missing, or refuses the row.
fn is_elsewhere(error: &SqlxError) -> bool {
    matches!(code(error), Some(NO_SUCH_TABLE | NULL))
}

fn elsewhere(database: &str) -> Error {
    let text = format!(
        "this transaction is of {database}, which is not the outbox that `run()` was given; emit in a transaction of that \
         pool, or give `run()` this one with `.outbox(pool)`"
    );
    Error::new(ErrorKind::NoOutbox, text)
}

/// Finishes leased rows; one whose lease was lost is another relay's now. What waited for one of them goes next.
pub(super) fn finish<'a>(conn: &'a mut MySqlConnection, rows: &'a Vec<OutboxRow>) -> Running<'a, Vec<bool>> {
    Box::pin(async move {
        let asked = numbers(rows.iter().map(|row| row.row));
        let text = format!(
            "select seq, lease from evented_outbox force index (primary) where seq in ({asked}) and lease is not null for update"
        );
        let mut leases = BTreeMap::new();
        for row in read(conn, text).await? {
            leases.insert(row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?);
        }
        let (mut finished, mut done) = (Vec::new(), Vec::new());
        for row in rows {
            // Taken out, so that a row which stands here twice is finished once.
            let held = row.token.is_some() && leases.get(&row.row).copied() == row.token.map(LeaseToken::to_i64);
            if held {
                leases.remove(&row.row);
                done.push(row.row);
            } else {
                tracing::warn!(event_id = %row.event_id, "the relay lost its lease on an outbox row; another has it");
            }
            finished.push(held);
        }
        delete_taken(conn, &done).await?;
        Ok(finished)
    })
}

/// Deletes rows that have their target. What waited for one of them goes next.
pub(super) async fn delete_taken(conn: &mut MySqlConnection, done: &[i64]) -> Result<(), SqlxError> {
    if done.is_empty() {
        return Ok(());
    }
    let keys = keys_of(conn, done).await?;
    let done = numbers(done.iter().copied());
    let mut statements =
        vec![format!("delete from o using evented_outbox o force index (primary) where o.seq in ({done})")];
    if !keys.is_empty() {
        statements.push(delete_keys(&done));
    }
    write_all(conn, statements).await?;
    let keys: BTreeSet<_> = keys.into_iter().map(|key| (key.order_key, key.target)).collect();
    let next = next_of(conn, keys.into_iter().collect()).await?;
    wake(conn, &next).await
}

/// Deletes the order keys of rows. By their index, since a look at all would wait for those that others have in hand.
pub(super) fn delete_keys(rows: &str) -> String {
    format!("delete from k using evented_outbox_keys k force index (evented_outbox_keys_seq) where k.seq in ({rows})")
}

/// The order key of what goes elsewhere of a row.
pub(super) struct RowKey {
    pub row: i64,
    pub order_key: [u8; 16],
    pub target: String,
}

/// The order keys of rows that have their target.
pub(super) async fn keys_of(conn: &mut MySqlConnection, rows: &[i64]) -> Result<Vec<RowKey>, SqlxError> {
    let text = format!(
        "select seq, order_key, target from evented_outbox_keys where seq in ({})",
        numbers(rows.iter().copied())
    );
    let found = read(conn, text).await?;
    let key = |row: &MySqlRow| {
        Ok(RowKey { row: row.try_get(0)?, order_key: id_bytes(row.try_get(1)?)?, target: row.try_get(2)? })
    };
    found.iter().map(key).collect()
}

/// The first rows of order keys: as many as a turn may have.
async fn next_of(conn: &mut MySqlConnection, keys: Vec<([u8; 16], String)>) -> Result<Vec<i64>, SqlxError> {
    let mut next = Vec::new();
    let most = (STEP / keys.len().max(1)).max(1);
    for some in keys.chunks(KEYS_MAX) {
        let first = |(key, target): &([u8; 16], String)| {
            format!(
                "(select seq from evented_outbox_keys where order_key = {} and target = {} order by seq limit {most})",
                hex(*key),
                text_literal(target)
            )
        };
        let text = some.iter().map(first).collect::<Vec<_>>().join(" union all ");
        for row in read(conn, text).await? {
            next.push(row.try_get(0)?);
        }
    }
    Ok(sorted(next))
}

/// Lets rows be due that waited for others of their order key.
pub(super) async fn wake(conn: &mut MySqlConnection, rows: &[i64]) -> Result<(), SqlxError> {
    if rows.is_empty() {
        return Ok(());
    }
    let text = format!(
        concat!(
            "update evented_outbox force index (primary) set due_at = least(due_at, ",
            now_ms!(),
            ") where seq in ({}) and lease is null"
        ),
        numbers(rows.iter().copied())
    );
    write(conn, text).await?;
    Ok(())
}

/// Gives leased rows back, due again after a delay. One whose lease was lost is skipped.
pub(super) fn put_back<'a>(conn: &'a mut MySqlConnection, rows: &'a [PutBack]) -> Running<'a, ()> {
    Box::pin(async move {
        let held = rows.iter().filter_map(|back| Some((back.row.row, back.row.token?.to_i64(), back)));
        for (row, token, back) in sorted_by_row(held) {
            sql(concat!(
                "update evented_outbox set lease = null, due_at = ",
                now_ms!(),
                " + ?, error = coalesce(?, error) where seq = ? and lease = ?"
            ))
            .bind(time::delay_ms(back.delay))
            .bind(back.error.clone())
            .bind(row)
            .bind(token)
            .execute(&mut *conn)
            .await?;
        }
        Ok(())
    })
}

/// In the one order in which rows are locked.
fn sorted_by_row<'b>(rows: impl Iterator<Item = (i64, i64, &'b PutBack)>) -> Vec<(i64, i64, &'b PutBack)> {
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|(row, ..)| *row);
    rows
}

/// Whether the store has its row, and which queue that says it feeds.
pub(super) fn feed<'a>(conn: &'a mut MySqlConnection, feed: &'a Feed) -> Running<'a, (bool, Option<Identity>)> {
    Box::pin(async move {
        // Most starts find it written.
        let read = sql("select feeds from evented_schema").fetch_optional(&mut *conn).await?;
        let Some(read) = read else { return Ok((false, None)) };
        let written: Option<&str> = read.try_get(0)?;
        let (queue, adopt) = match feed {
            Feed::First(queue) if written.is_none() => (queue, false),
            Feed::Adopt(queue) => (queue, true),
            _ => return Ok((true, written.map(Identity::from))),
        };
        sql("update evented_schema set feeds = if(? or feeds is null, ?, feeds)")
            .bind(adopt)
            .bind(queue.as_str().to_owned())
            .execute(&mut *conn)
            .await?;
        let row = sql("select feeds from evented_schema").fetch_one(conn).await?;
        Ok((true, row.try_get::<Option<&str>, _>(0)?.map(Identity::from)))
    })
}

/// Tells rows on their way to other queues that they go to this one, some at a time; answers whether there may be more.
pub(super) fn redirect<'a>(conn: &'a mut MySqlConnection, queue: &'a Identity) -> Running<'a, bool> {
    Box::pin(async move {
        let target = text_literal(queue.as_str());
        // By the index, on both sides of the target; a limit of locked rows.
        let others = |side: &str| {
            format!(
                "(select seq from evented_outbox force index (evented_outbox_next) where target {side} {target}
                  order by target, due_at, seq limit {STEP} for update)"
            )
        };
        let mut rows: Vec<i64> = Vec::new();
        for side in ["<", ">"] {
            for row in read(conn, others(side)).await? {
                rows.push(row.try_get(0)?);
            }
        }
        if rows.is_empty() {
            return Ok(false);
        }
        let seqs = numbers(sorted(rows));
        write_all(
            conn,
            vec![
                format!(
                    "update evented_outbox force index (primary) set target = {target}, lease = null, due_at = 0
                     where seq in ({seqs})"
                ),
                format!(
                    "update evented_outbox_keys force index (evented_outbox_keys_seq) set target = {target}
                     where seq in ({seqs})"
                ),
            ],
        )
        .await?;
        Ok(true)
    })
}

/// Deliveries of other stores that cannot come again are remembered for a while only.
pub(super) fn settled<'a>(conn: &'a mut MySqlConnection, deliveries: &'a [DeliveryId]) -> Running<'a, ()> {
    Box::pin(async move {
        let settled = sorted(deliveries.iter().map(|delivery| delivery.to_bytes()));
        for some in settled.chunks(STEP) {
            let text = format!(
                concat!(
                    "update evented_inbox force index (primary) set at = least(at, ",
                    now_ms!(),
                    " - {}) where delivery in ({})"
                ),
                time::millis(INBOX_KEPT.saturating_sub(INBOX_SETTLED)),
                ids(some)
            );
            write(conn, text).await?;
        }
        Ok(())
    })
}

pub(super) fn rows<'a>(conn: &'a mut MySqlConnection, (): &'a ()) -> Running<'a, u64> {
    Box::pin(async move {
        let row = sql("select count(*) from evented_outbox").fetch_one(conn).await?;
        Ok(row.try_get::<i64, _>(0)?.cast_unsigned())
    })
}
