//! The outbox: rows written in the application's transactions, and their way to deliveries.

use std::time::Duration;

use sqlx::{Error as SqlxError, PgConnection, Row as _, postgres::PgRow, query, query_scalar};

use crate::{
    error::{Error, ErrorKind, StoreError},
    id::{EventId, LeaseToken},
    origin::Origin,
    store::{
        Claims, OutboxRow, Relay, Relayed,
        tx::{NewRow, Statement, Value},
    },
    time,
};

use super::{
    claim::Asked,
    exchange::claim_beside,
    floors::{self, Floors},
    link::{self, Link, Session},
    push::insert_new,
    sql::{self, version_column},
};

/// The lease of a row that waits for others of its order key; never a token, which is odd.
const WAITS_FOR_OTHERS: i64 = 0;
/// When rows are looked at again that wait for others, or that another relay has in hand.
const OTHERS_LOOK: Duration = Duration::from_millis(20);

/// Inserts the row where `$8` is the database's identity; `$else` is what comes otherwise.
macro_rules! insert {
    ($version:literal, $where:literal) => {
        concat!(
            "insert into evented_outbox (event_id, event, due_at, emitted_at, version, correlation, payload)
             select $1::bytea, $2::text, c.ms + $3::int8, c.ms, ",
            $version,
            ", $5::bytea, $6::bytea
             from evented_schema s cross join (select ",
            sql::now_ms!(),
            " as ms offset 0) c ",
            $where,
            " on conflict (event_id, event) do nothing"
        )
    };
}

/// In another database it writes nothing, and the transaction goes on.
macro_rules! insert_here {
    () => {
        insert!("$4::int8::int4", "where s.identity = $7::text")
    };
}

/// In another database it fails, with a text that says so: a number that is none.
macro_rules! insert_or_fail {
    () => {
        insert!(
            "case when s.identity = $7::text then $4::int8
                else ('this transaction is of another database than the outbox that evented was given; ' || s.identity)::int8
             end::int4",
            ""
        )
    };
}

/// The same insert, and its commit tells all who listen to the channel (`schema.rs` names it). One row, where one is inserted.
macro_rules! notifying {
    ($insert:expr) => {
        concat!(
            "with written as (",
            $insert,
            " returning event_id)
             select pg_notify('evented_' || 'evented_schema'::regclass::oid, '') from written"
        )
    };
}

const READ_ONLY: &str = "the transaction is read only, so no event can be emitted in it; begin it with `evented::begin(&pool)`, or as \
                         `begin read write`";

const INSERT: &str = insert_here!();
const INSERT_AND_NOTIFY: &str = notifying!(insert_here!());
const INSERT_OR_FAIL: &str = insert_or_fail!();
const INSERT_OR_FAIL_AND_NOTIFY: &str = notifying!(insert_or_fail!());

/// Inserts one row in the caller's transaction; an event that is there already is left as it is.
pub(in crate::store) async fn insert_row(conn: &mut PgConnection, row: &NewRow) -> Result<(), Error> {
    let done = query(if row.notify { INSERT_AND_NOTIFY } else { INSERT })
        .bind(row.event_id.to_bytes())
        .bind(row.event)
        .bind(time::delay_ms(row.delay))
        .bind(i64::from(version_column(row.version)))
        .bind(row.origin.to_bytes(row.event_id))
        .bind(&*row.payload)
        .bind(row.outbox.as_str())
        .execute(&mut *conn)
        .await
        .map_err(refused)?;
    if done.rows_affected() > 0 {
        return Ok(());
    }
    let identity: Option<String> =
        query_scalar("select identity from evented_schema").fetch_optional(conn).await.map_err(refused)?;
    if identity.as_deref() == Some(row.outbox.as_str()) { Ok(()) } else { Err(elsewhere()) }
}

fn elsewhere() -> Error {
    let text = "this transaction is of another database than the outbox that `run()` was given, or has another search path; \
                emit in a transaction of that pool, or give `run()` this one with `.outbox(pool)`";
    Error::new(ErrorKind::NoOutbox, text)
}

/// A database without our tables, or with those of a release that knew no outbox, is another one. The server has given the
/// transaction up then.
fn refused(error: SqlxError) -> Error {
    match explain(&error) {
        Some(explained) => explained.because(error),
        None => error.into(),
    }
}

/// What the failure of an insert means. A number that is none is [`INSERT_OR_FAIL`]'s way to fail.
pub(in crate::store) fn explain(error: &SqlxError) -> Option<Error> {
    match link::code(error)?.as_str() {
        "42P01" | "42703" | "22P02" => Some(elsewhere()),
        "25006" => Some(Error::new(ErrorKind::Database, READ_ONLY)),
        _ => None,
    }
}

/// The row as a statement for a transaction of another library.
pub(in crate::store) fn statements(row: &NewRow) -> Vec<Statement> {
    let values = vec![
        Value::Bytes(Some(row.event_id.to_bytes().to_vec())),
        Value::Text(Some(row.event.to_owned())),
        Value::Integer(Some(time::delay_ms(row.delay))),
        Value::Integer(Some(version_column(row.version).into())),
        Value::Bytes(row.origin.to_bytes(row.event_id)),
        Value::Bytes(Some(row.payload.to_vec())),
        Value::Text(Some(row.outbox.to_string())),
    ];
    vec![Statement::new(if row.notify { INSERT_OR_FAIL_AND_NOTIFY } else { INSERT_OR_FAIL }, values)]
}

pub(in crate::store) async fn run(conn: &mut PgConnection, statement: &Statement) -> Result<u64, SqlxError> {
    let bound = statement.values().iter().fold(query(statement.sql()), |query, value| match value {
        Value::Bytes(bytes) => query.bind(bytes.as_deref()),
        Value::Text(text) => query.bind(text.as_deref()),
        Value::Integer(number) => query.bind(*number),
    });
    Ok(bound.execute(conn).await?.rows_affected())
}

/// A turn of the relay. It looks before it locks, unless it was told that something is due: where nothing is it writes nothing.
///
/// What it claims beside is known well enough by the floors of the last claims: it was stored just now.
pub(super) async fn relay(link: &Link, floors: &Floors, relay: &Relay, told: bool) -> Result<Relayed, StoreError> {
    if !told {
        let next = link.run(&(), |session, ()| Box::pin(next_row(session))).await?;
        if next != Some(Duration::ZERO) {
            return Ok(Relayed { next_due: next, ..Relayed::default() });
        }
    }
    let beginning = |claim| floors::handlers(claim).map(|_| 0).collect();
    let claim = relay.claim.as_ref();
    let claim = claim.map(|claim| Asked { claim, floors: floors.of(claim).unwrap_or_else(|| beginning(claim)) });
    let asked = (relay, claim);
    link.transact(&asked, |session, asked| Box::pin(take(session, asked.0, asked.1.as_ref()))).await
}

/// How long until the next outbox row is due; zero when one is.
pub(super) async fn next_row(session: &mut Session) -> Result<Option<Duration>, SqlxError> {
    let row = session
        .sql(concat!(
            "select (select o.due_at from evented_outbox o order by o.due_at, o.seq limit 1) - ",
            sql::now_ms!()
        ))
        .fetch_one(&mut session.conn)
        .await?;
    Ok(row.try_get::<Option<i64>, _>(0)?.map(time::from_millis))
}

/// Takes due rows that nobody has in hand. The generation is read as the rows are, at one moment: a handler that was
/// recorded before a row was emitted is one of it.
const TAKE: &str = concat!(
    "select o.seq, o.event_id, o.event, o.correlation, o.version, o.emitted_at, o.payload,
        (select s.catalogue from evented_schema s)
     from evented_outbox o where o.due_at <= ",
    "(select ",
    sql::now_ms!(),
    ") order by o.due_at, o.seq limit $1 for update of o skip locked"
);

async fn take(session: &mut Session, relay: &Relay, claim: Option<&Asked<'_>>) -> Result<Relayed, SqlxError> {
    let limit = i64::try_from(relay.rows).unwrap_or(i64::MAX);
    let mut rows = session.sql(TAKE).bind(limit).fetch_all(&mut session.conn).await?;
    let Some(first) = rows.first() else {
        // Another relay has them in hand. Should it not come to an end, they are due again.
        return Ok(Relayed { next_due: Some(OTHERS_LOOK), ..Relayed::default() });
    };
    if first.try_get::<i64, _>(7)?.cast_unsigned() != relay.generation {
        return Ok(Relayed { catalogue_moved: true, ..Relayed::default() });
    }
    // In the order of their commits, whenever they were due.
    rows.sort_by_key(|row| row.get::<i64, _>(0));
    let batch = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let fans: Vec<_> = batch.iter().map(|row| (relay.fan_out)(row)).collect();
    let last_ordered = batch.iter().zip(&fans).filter(|(_, fan)| fan.is_ordered()).map(|(row, _)| row.row).next_back();
    let first_elsewhere = match last_ordered {
        Some(last) => first_elsewhere(session, &batch, last).await?,
        None => None,
    };
    let token = LeaseToken::mint();
    let mut here = Vec::new();
    let mut done = Vec::new();
    let mut claimed = Vec::new();
    // Rows whose lease and time change: the row, its lease, and how long until it may be taken.
    let mut put_off: Vec<(i64, Option<i64>, Duration)> = Vec::new();
    for (row, fan) in batch.into_iter().zip(fans) {
        if fan.is_ordered() && first_elsewhere.is_some_and(|first| first < row.row) {
            put_off.push((row.row, Some(WAITS_FOR_OTHERS), OTHERS_LOOK));
        } else if let Some(later) = fan.later {
            put_off.push((row.row, None, later));
        } else if fan.elsewhere.is_empty() {
            here.extend(fan.here);
            done.push(row.row);
        } else {
            here.extend(fan.here);
            claimed.push(OutboxRow { token: Some(token), ..row });
        }
    }
    let next = put_off.iter().map(|(.., later)| *later).min();
    put_off.extend(claimed.iter().map(|row| (row.row, Some(token.to_i64()), relay.lease)));
    insert_new(session, here.iter().collect()).await?;
    delete_rows(session, &done).await?;
    lease(session, &put_off).await?;
    let claims = match claim {
        Some(claim) if !done.is_empty() => claim_beside(session, claim, &[]).await?.claims,
        _ => Claims::default(),
    };
    let something = done.len() + claimed.len() > 0;
    let next_due = if something { None } else { next };
    let relayed = Relayed { done: done.len(), claimed, next_due, ..Relayed::default() };
    Ok(relayed.with(&here, claims))
}

fn read(row: &PgRow) -> Result<OutboxRow, SqlxError> {
    let event_id = EventId::from_bytes(row.try_get(1)?);
    Ok(OutboxRow {
        row: row.try_get(0)?,
        token: None,
        event_id,
        event: row.try_get(2)?,
        origin: Origin::from_bytes(event_id, row.try_get(3)?),
        version: row.try_get::<i32, _>(4)?.cast_unsigned(),
        emitted_unix_ms: row.try_get(5)?,
        target: None,
        payload: row.try_get::<&[u8], _>(6)?.into(),
    })
}

/// The first row before `last` that another relay has, in hand or leased, or has left to take: deliveries of an order key wait
/// for it, since it may have their key. One that waits so itself holds up those behind it.
///
/// It is looked for after the rows were taken: one that another relay had in hand then stands there until that relay's commit,
/// after which its deliveries do.
async fn first_elsewhere(session: &mut Session, batch: &[OutboxRow], last: i64) -> Result<Option<i64>, SqlxError> {
    let row = session
        .sql(concat!(
            "select o.seq from evented_outbox o
             where o.seq < $2 and (o.lease is not null or o.due_at <= (select ",
            sql::now_ms!(),
            ")) and o.seq <> all($1::int8[]) order by o.seq limit 1"
        ))
        .bind(batch.iter().map(|row| row.row).collect::<Vec<_>>())
        .bind(last)
        .fetch_optional(&mut session.conn)
        .await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// Leases rows, or puts them off.
async fn lease(session: &mut Session, rows: &[(i64, Option<i64>, Duration)]) -> Result<(), SqlxError> {
    if rows.is_empty() {
        return Ok(());
    }
    session
        .sql(concat!(
            "update evented_outbox o set lease = n.lease, due_at = c.ms + n.delay
             from unnest($1::int8[], $2::int8[], $3::int8[]) n(seq, lease, delay), (select ",
            sql::now_ms!(),
            " as ms offset 0) c where o.seq = n.seq"
        ))
        .bind(rows.iter().map(|(row, ..)| *row).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, lease, _)| *lease).collect::<Vec<_>>())
        .bind(rows.iter().map(|(.., later)| time::delay_ms(*later)).collect::<Vec<_>>())
        .execute(&mut session.conn)
        .await?;
    Ok(())
}

async fn delete_rows(session: &mut Session, rows: &[i64]) -> Result<(), SqlxError> {
    if rows.is_empty() {
        return Ok(());
    }
    session.sql("delete from evented_outbox where seq = any($1::int8[])").bind(rows).execute(&mut session.conn).await?;
    Ok(())
}

/// Replaces leased rows by their outbox deliveries; a row whose lease was lost is another relay's now.
pub(super) async fn finish(session: &mut Session, rows: &[OutboxRow]) -> Result<Vec<bool>, SqlxError> {
    let held = session
        .sql(
            "select o.seq from evented_outbox o join unnest($1::int8[], $2::int8[]) r(seq, lease)
                on o.seq = r.seq and o.lease = r.lease
             order by o.seq for update of o",
        )
        .bind(rows.iter().map(|row| row.row).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.token.map(LeaseToken::to_i64)).collect::<Vec<_>>())
        .fetch_all(&mut session.conn)
        .await?;
    let held = held.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
    let mut finished = Vec::new();
    for row in rows {
        let is_held = held.contains(&row.row);
        finished.push(is_held);
        if !is_held {
            tracing::warn!(event_id = %row.event_id, "the relay lost its lease on an outbox row; another has it");
        }
    }
    delete_rows(session, &held).await?;
    Ok(finished)
}

pub(super) async fn rows(session: &mut Session) -> Result<u64, SqlxError> {
    let row = session.sql("select count(*) from evented_outbox").fetch_one(&mut session.conn).await?;
    Ok(row.try_get::<i64, _>(0)?.cast_unsigned())
}
