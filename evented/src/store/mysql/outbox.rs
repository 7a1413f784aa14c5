//! The outbox: rows written in the application's transactions, and their way to deliveries.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{Error as SqlxError, MySqlConnection, Row as _, mysql::MySqlRow, query};

use crate::{
    error::{Error, ErrorKind},
    id::LeaseToken,
    origin::Origin,
    store::{
        Claims, Fan, OutboxRow, Relay, Relayed,
        tx::{NewRow, Statement, Value},
    },
    time,
};

use super::{
    claim,
    link::{BEGIN, NO_SUCH_TABLE, NULL, Running, code, read, sql, write},
    push::insert,
    schema::ID_MAX,
    sql::{count, event_id, now_ms, numbers},
};

/// The lease of a row that waits for others of its order key; never a token, which is odd.
const WAITS_FOR_OTHERS: i64 = 0;
/// When such a row is looked at again, and rows that another relay has in hand.
const OTHERS_LOOK: Duration = Duration::from_millis(20);

/// Inserts one row; an event that is there already is left as it is, which is no error and leaves the transaction as it was.
///
/// In another database than the outbox's, the identity there is another: the row has no time then, which the table refuses.
const INSERT: &str = concat!(
    "insert into evented_outbox (event_id, event, due_at, version, emitted_at, correlation, payload)
     values (?, ?, ",
    now_ms!(),
    " + ?, ?, if((select identity from evented_identity) = ?, ",
    now_ms!(),
    ", null), ?, ?) on duplicate key update event_id = values(event_id)"
);

/// The row as a statement: evented's own, and one for a transaction of another library.
pub(super) fn statement(row: &NewRow) -> Statement {
    let values = vec![
        Value::Bytes(Some(row.event_id.to_bytes().to_vec())),
        Value::Text(Some(row.event.to_owned())),
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

/// One turn of the relay, in a transaction of its own, which it begins.
///
/// The rows of the turn are locked, and those that another relay has locked are passed by. Whoever has locked them, they are
/// in sight until its commit: so is what a row with an order key must wait for.
pub(super) fn relay<'a>(conn: &'a mut MySqlConnection, relay: &'a Relay) -> Running<'a, Relayed> {
    Box::pin(async move {
        // By the index, of which the limit locks no more rows than it takes. The catalogue is read after them, so that it has
        // whatever handler was recorded before one of them was emitted.
        let text = format!(
            concat!(
                "{}; select seq, event_id, event, correlation, version, emitted_at, payload
                 from evented_outbox force index (evented_outbox_due) where due_at <= ",
                now_ms!(),
                " order by due_at, seq limit {} for update skip locked; select catalogue from evented_schema"
            ),
            BEGIN, relay.rows
        );
        let mut rows = read(conn, text).await?;
        let generation: i64 = rows.pop().ok_or(SqlxError::RowNotFound)?.try_get(0)?;
        if generation.cast_unsigned() != relay.generation {
            return Ok(Relayed { catalogue_moved: true, ..Relayed::default() });
        }
        let mut relayed = Relayed::default();
        if rows.is_empty() {
            relayed.next_due = Some(OTHERS_LOOK);
            return Ok(relayed);
        }
        // In the order of their commits, whenever they were due.
        rows.sort_by_key(|row| row.get::<i64, _>(0));
        let rows = rows.iter().map(outbox_row).collect::<Result<Vec<_>, _>>()?;
        let fans: Vec<_> = rows.iter().map(|row| (relay.fan_out)(row)).collect();
        let first_elsewhere = if fans.iter().any(Fan::is_ordered) { first_elsewhere(conn, &rows).await? } else { None };
        let token = LeaseToken::mint();
        let (mut here, mut done, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        let mut later: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for (row, fan) in rows.into_iter().zip(fans) {
            if fan.is_ordered() && first_elsewhere.is_some_and(|first| first < row.row) {
                waiting.push(row.row);
            } else if let Some(delay) = fan.later {
                later.entry(time::delay_ms(delay)).or_default().push(row.row);
            } else if fan.elsewhere.is_empty() {
                here.extend(fan.here);
                done.push(row.row);
            } else {
                here.extend(fan.here);
                relayed.claimed.push(OutboxRow { token: Some(token), ..row });
            }
        }
        insert(conn, here.iter().collect()).await?;
        delete_rows(conn, &done).await?;
        relayed.done = done.len();
        for (delay, rows) in later {
            postpone(conn, rows, "lease", delay).await?;
        }
        postpone(conn, waiting, &WAITS_FOR_OTHERS.to_string(), time::millis(OTHERS_LOOK)).await?;
        let claimed = relayed.claimed.iter().map(|row| row.row).collect();
        postpone(conn, claimed, &token.to_i64().to_string(), time::delay_ms(relay.lease)).await?;
        let claims = match &relay.claim {
            Some(asked) if relayed.done > 0 => {
                let due = claim::due(conn, asked, &[]).await?;
                claim::lease(conn, &due, asked.lease).await?
            }
            _ => Claims::default(),
        };
        Ok(relayed.with(&here, claims))
    })
}

fn outbox_row(row: &MySqlRow) -> Result<OutboxRow, SqlxError> {
    let event_id = event_id(row.try_get(1)?)?;
    Ok(OutboxRow {
        row: row.try_get(0)?,
        token: None,
        event_id,
        event: row.try_get(2)?,
        origin: Origin::from_bytes(event_id, row.try_get(3)?),
        version: count(row.try_get(4)?)?,
        emitted_unix_ms: row.try_get(5)?,
        target: None,
        payload: row.try_get::<&[u8], _>(6)?.into(),
    })
}

/// The first row that another relay has, or has left to take: deliveries of an order key wait for it, since it may have their
/// key. One that waits so itself holds up those behind it.
async fn first_elsewhere(conn: &mut MySqlConnection, batch: &[OutboxRow]) -> Result<Option<i64>, SqlxError> {
    let Some(last) = batch.last() else { return Ok(None) };
    let text = format!(
        concat!(
            "select seq from evented_outbox where seq < {} and seq not in ({}) and (lease is not null or due_at <= ",
            now_ms!(),
            ") order by seq limit 1"
        ),
        last.row,
        numbers(batch.iter().map(|row| row.row))
    );
    read(conn, text).await?.first().map(|row| row.try_get(0)).transpose()
}

/// Lets rows be due after `delay`, with this lease.
async fn postpone(conn: &mut MySqlConnection, rows: Vec<i64>, lease: &str, delay: i64) -> Result<(), SqlxError> {
    if rows.is_empty() {
        return Ok(());
    }
    let text = format!(
        concat!(
            "update evented_outbox force index (primary) set lease = {}, due_at = ",
            now_ms!(),
            " + {} where seq in ({})"
        ),
        lease,
        delay,
        numbers(rows)
    );
    write(conn, text).await?;
    Ok(())
}

async fn delete_rows(conn: &mut MySqlConnection, rows: &[i64]) -> Result<(), SqlxError> {
    if rows.is_empty() {
        return Ok(());
    }
    write(
        conn,
        format!(
            "delete from o using evented_outbox o force index (primary) where o.seq in ({})",
            numbers(rows.iter().copied())
        ),
    )
    .await?;
    Ok(())
}

/// Replaces leased rows by their outbox deliveries; a row whose lease was lost is another relay's now.
pub(super) fn finish<'a>(conn: &'a mut MySqlConnection, rows: &'a Vec<OutboxRow>) -> Running<'a, Vec<bool>> {
    Box::pin(async move {
        let text = format!(
            "select seq, lease from evented_outbox force index (primary) where seq in ({}) and lease is not null for update",
            numbers(rows.iter().map(|row| row.row))
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
        delete_rows(conn, &done).await?;
        Ok(finished)
    })
}

pub(super) fn rows<'a>(conn: &'a mut MySqlConnection, (): &'a ()) -> Running<'a, u64> {
    Box::pin(async move {
        let row = sql("select count(*) from evented_outbox").fetch_one(conn).await?;
        Ok(row.try_get::<i64, _>(0)?.cast_unsigned())
    })
}

/// How long until the next outbox row is due; zero when one is.
pub(super) fn next_row<'a>(conn: &'a mut MySqlConnection, (): &'a ()) -> Running<'a, Option<Duration>> {
    Box::pin(async move {
        let row = sql(concat!("select min(due_at) - ", now_ms!(), " from evented_outbox")).fetch_one(conn).await?;
        Ok(row.try_get::<Option<i64>, _>(0)?.map(time::from_millis))
    })
}
