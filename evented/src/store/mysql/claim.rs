//! Claiming: what is due, taken evenly and by priority, without waiting for rows that others have in hand.

use std::{collections::HashMap, fmt::Write as _, sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, Error as SqlxError, MySqlConnection, Row as _, mysql::MySqlRow, query};

use crate::{
    id::{LeaseToken, SessionId},
    origin::Origin,
    retry::Policy,
    store::{Blame, Claim, Claimed, Claims, Lapsed, Lease, Outcome, Settlement, pick},
    time,
};

use super::{
    counts::{Counted, Counts, write_all},
    identity::generation,
    link::{NO_SUCH_TABLE, Running, code, read},
    sql::{NEVER, TRIED, backoff, count, delivery_id, event_id, now_ms, numbers},
    suspects,
};

/// When rows are looked for again that another claim took first.
const TAKEN_LOOK: Duration = Duration::from_millis(10);

/// What is due, and when the next will be. Read without a lock: a worker that finds nothing writes nothing.
#[derive(Default)]
pub(super) struct Due {
    pub rows: Vec<i64>,
    pub next: Option<Duration>,
    /// The generation of the catalogue; 0 where the store has lost its row, which no catalogue ever is of.
    pub generation: u64,
}

/// As a piece of work.
pub(super) fn look<'a>(conn: &'a mut MySqlConnection, claim: &'a Claim) -> Running<'a, Due> {
    Box::pin(async move {
        match due(conn, claim, &[]).await {
            // Dropped, and made again as soon as somebody reads the catalogue.
            Err(error) if code(&error) == Some(NO_SUCH_TABLE) => Ok(Due::default()),
            due => due,
        }
    })
}

/// Finds due rows of queues that are not paused. What was `settled` just now is left for another claim.
///
/// One statement for all: for each handler one descent of the index for its oldest due rows and one for its next time. Its
/// text is the same for a worker's every claim, and so it is prepared once.
pub(super) async fn due(conn: &mut MySqlConnection, claim: &Claim, settled: &[Settlement]) -> Result<Due, SqlxError> {
    let given_back = |settled: &&Settlement| matches!(settled.outcome, Outcome::Released | Outcome::Retry { .. });
    let given_back: Vec<i64> = settled.iter().filter(given_back).map(|settled| settled.lease.row).collect();
    let handlers = || claim.queues.iter().flat_map(|queue| queue.handlers.iter().map(move |handler| (queue, handler)));
    let mut text = String::from(concat!(
        "(select -1, if(exists (select 1 from evented_handlers), ",
        generation!(),
        ", 0), null, ",
        now_ms!(),
        ")"
    ));
    let of_lapsed = if claim.lapsed == Lapsed::Take { "" } else { "and d.lease is null" };
    for (at, _) in handlers().enumerate() {
        const OF_HANDLER: &str = "from evented_deliveries d force index (evented_deliveries_due)
            where d.handler = (select h.num from evented_handlers h where h.id = ?)
                and not exists (select 1 from evented_queues q where q.name = ? and q.paused)";
        write!(
            text,
            concat!(
                " union all (select {}, d.seq, d.due_at, 0 {} and d.due_at <= ",
                now_ms!(),
                " and d.version <= ? {} order by d.due_at, d.seq limit ?)
                 union all (select {}, null, d.due_at, 0 {} and d.due_at > ",
                now_ms!(),
                " and d.due_at < {} order by d.due_at limit 1)"
            ),
            at, OF_HANDLER, of_lapsed, at, OF_HANDLER, TRIED
        )
        .expect("a string takes what is written to it");
    }
    let mut look = query(AssertSqlSafe(text));
    for (queue, handler) in handlers() {
        // One more than wanted, to know whether there is more; and as many as are left out of what is found.
        let most = queue.wanted.saturating_add(1 + given_back.len());
        look = look
            .bind(&*handler.name)
            .bind(&*queue.name)
            .bind(i64::from(handler.version))
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .bind(&*handler.name)
            .bind(&*queue.name);
    }
    let mut found = vec![Vec::new(); handlers().count()];
    let (mut now, mut next, mut left) = (0, NEVER, false);
    let mut generation = 0;
    for row in look.fetch_all(conn).await? {
        let Ok(handler) = usize::try_from(row.try_get::<i64, _>(0)?) else {
            generation = row.try_get::<i64, _>(1)?.cast_unsigned();
            now = row.try_get(3)?;
            continue;
        };
        let due_at: i64 = row.try_get(2)?;
        match row.try_get::<Option<i64>, _>(1)? {
            None => next = next.min(due_at),
            Some(row) if given_back.contains(&row) => left = true,
            Some(row) => found[handler].push((due_at, row)),
        }
    }
    let mut rows = Vec::new();
    let mut found = found.into_iter();
    for queue in &claim.queues {
        // A union has its rows in any order.
        let lists = found.by_ref().take(queue.handlers.len()).map(|mut found: Vec<(i64, i64)>| {
            found.sort_unstable();
            found.into_iter().map(|(_, row)| row).collect::<Vec<_>>()
        });
        let (picked, more) = pick(queue, &lists.collect::<Vec<_>>());
        rows.extend(picked);
        left |= more;
    }
    let next =
        if left { Some(Duration::ZERO) } else { (next < NEVER).then(|| time::from_millis(next.saturating_sub(now))) };
    Ok(Due { rows, next, generation })
}

/// A row that is due or waits as a suspect, which the transaction holds.
pub(super) struct Held {
    pub row: i64,
    pub handler: i64,
    pub is_leased: bool,
    /// Who leases it, or did last.
    pub holder: Option<i64>,
    pub is_suspect: bool,
    pub died_with: Option<i64>,
    claimed: Claimed,
}

/// Holds rows, those excepted that others have in hand or of which this does not hold any more. They are read as what they are
/// once they are leased with this token.
pub(super) async fn hold(
    conn: &mut MySqlConnection,
    rows: impl IntoIterator<Item = i64>,
    that: &str,
    token: LeaseToken,
) -> Result<Vec<Held>, SqlxError> {
    // The handlers' rows are read by statements within this one, which locks the deliveries' alone.
    let text = format!(
        "select d.seq, d.id, d.event_id, (select h.id from evented_handlers h where h.num = d.handler),
            d.correlation, d.version, d.emitted_at, d.failed, d.deaths, d.charges + d.pending, d.attempts_max,
            d.backoff_first_ms, d.backoff_max_ms, d.timeout_ms, d.payload, d.order_key is not null,
            cast(d.handler as signed), d.lease is not null, d.holder, d.suspect > 0, d.died_with
         from evented_deliveries d where d.seq in ({}) and {that} for update skip locked",
        numbers(rows)
    );
    let mut names = HashMap::new();
    let held = |row: &MySqlRow| {
        Ok(Held {
            row: row.try_get(0)?,
            handler: row.try_get(16)?,
            is_leased: row.try_get(17)?,
            holder: row.try_get(18)?,
            is_suspect: row.try_get(19)?,
            died_with: row.try_get(20)?,
            claimed: claimed(row, token, &mut names)?,
        })
    };
    read(conn, text).await?.iter().map(held).collect()
}

/// What leases these rows, in the name of a session. The charge of a death that was while it was tried counts from now on.
pub(super) fn lease_text(held: &[Held], token: LeaseToken, lease: Duration, session: SessionId) -> String {
    format!(
        concat!(
            "update evented_deliveries set charges = charges + pending, pending = 0, holder = {}, lease = {}, due_at = ",
            now_ms!(),
            " + {} where seq in ({})"
        ),
        session.to_i64(),
        token.to_i64(),
        time::delay_ms(lease),
        numbers(held.iter().map(|held| held.row))
    )
}

impl Held {
    pub(super) fn into_claimed(self) -> Claimed {
        self.claimed
    }
}

/// Leases rows that are due, those excepted that others have in hand, and writes what is counted. Those whose holder died
/// become suspects.
pub(super) async fn lease(
    conn: &mut MySqlConnection,
    due: &Due,
    claim: &Claim,
    counts: &mut Counts,
) -> Result<Claims, SqlxError> {
    if due.rows.is_empty() {
        write_all(conn, counts.statements()).await?;
        return Ok(Claims { next_due: due.next, ..Claims::default() });
    }
    let token = LeaseToken::mint();
    let held = hold(conn, due.rows.iter().copied(), concat!("d.due_at <= ", now_ms!()), token).await?;
    let found = held.len();
    let (ended, mut leasing): (Vec<_>, Vec<_>) = held.into_iter().partition(|held| held.is_leased);
    for held in &leasing {
        counts.add(held.handler, Counted::Running, 1);
    }
    if !ended.is_empty() {
        leasing.extend(suspects::accuse(conn, ended, counts).await?);
    }
    let suspects = leasing.len() < found;
    let mut statements = Vec::new();
    if !leasing.is_empty() {
        statements.push(lease_text(&leasing, token, claim.lease, claim.session));
    }
    statements.extend(counts.statements());
    write_all(conn, statements).await?;
    let next_due = if suspects {
        // They took the places of others that are due.
        Some(Duration::ZERO)
    } else if found < due.rows.len() {
        Some(due.next.unwrap_or(TAKEN_LOOK).min(TAKEN_LOOK))
    } else {
        due.next
    };
    // Run them in the order in which they were due.
    let order: HashMap<i64, usize> = due.rows.iter().enumerate().map(|(at, row)| (*row, at)).collect();
    leasing.sort_by_key(|held| order.get(&held.row).copied());
    let deliveries = leasing.into_iter().map(Held::into_claimed).collect();
    Ok(Claims { deliveries, next_due, suspects })
}

fn claimed(row: &MySqlRow, token: LeaseToken, names: &mut HashMap<String, Arc<str>>) -> Result<Claimed, SqlxError> {
    let event_id = event_id(row.try_get(2)?)?;
    let name: &str = row.try_get(3)?;
    let handler = match names.get(name) {
        Some(handler) => Arc::clone(handler),
        None => Arc::clone(names.entry(name.to_owned()).or_insert_with(|| name.into())),
    };
    let number = |at: usize| count(row.try_get(at)?);
    Ok(Claimed {
        lease: Lease {
            delivery: delivery_id(row.try_get(1)?)?,
            row: row.try_get(0)?,
            token,
            ordered: row.try_get(15)?,
        },
        event_id,
        handler,
        origin: Origin::from_bytes(event_id, row.try_get(4)?),
        version: number(5)?,
        emitted_unix_ms: row.try_get(6)?,
        failed: number(7)?,
        blame: Blame { deaths: number(8)?, charges: number(9)? },
        policy: Policy {
            attempts_max: number(10)?,
            backoff: backoff(row.try_get(11)?, row.try_get(12)?),
            timeout: time::from_millis(row.try_get(13)?),
        },
        payload: row.try_get::<&[u8], _>(14)?.into(),
    })
}
