//! A turn of the relay, in one transaction, which it begins.
//!
//! A row is new, with a target of null, until a turn has looked at it. Then it is gone, or has the queue that the rest of it
//! goes to as its target, or waits for earlier rows that others have in hand at the moment, with an empty target. So one index
//! finds the first of each kind, and a million rows that wait for an absent queue stand in nobody's way.
//!
//! The rows of the turn are locked, and those that another relay has locked are passed by. Whoever has locked them, they are
//! in sight until its commit: so is what a row with an order key must wait for.
//!
//! What goes elsewhere of a row waits for earlier rows of its key and target, which stand in a table of their own. It is due
//! again when the one before it is finished (`outbox::finish`), which needs no look in between.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use sqlx::{Error as SqlxError, Executor as _, MySqlConnection, Row as _, mysql::MySqlRow};

use crate::{
    id::{Key, LeaseToken},
    origin::Origin,
    store::{Claims, Elsewhere, Fan, NewDelivery, OutboxRow, Relay, Relayed},
    time,
};

use super::{
    claim,
    counts::{Counts, write_all},
    identity::generation,
    link::{BEGIN, NO_SUCH_TABLE, NULL, Running, code, read, write},
    outbox::{delete_keys, keys_of, wake},
    push::insert,
    sql::{count, event_id, hex, id_bytes, list, now_ms, numbers, text_literal},
};

/// When a row is looked at again that waits for one which another relay has in hand, or which is due.
const OTHERS_LOOK: Duration = Duration::from_millis(20);
/// The same where nobody may tell of its turn: a relay may have died between its commit and its look whether what its rows wait
/// for was finished meanwhile.
const WAITS_LOOK: Duration = Duration::from_mins(5);
/// How long a row is left that goes to a queue which is not known here.
const UNKNOWN_LOOK: Duration = Duration::from_secs(1);
/// The target of a row that waits for others that nobody has taken yet.
const WAITS: &str = "''";

/// What a turn came to.
pub(super) struct Turn {
    pub relayed: Relayed,
    /// Rows that wait for others of their order key, and those others.
    pub waiting: Waiting,
    /// How many rows of counts it has left.
    pub counts: u64,
}

/// Rows that wait, and what for.
#[derive(Default)]
pub(super) struct Waiting {
    rows: Vec<i64>,
    before: Vec<i64>,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// A row of the turn before its fan is known.
struct Found {
    row: OutboxRow,
    due_at: i64,
    /// No turn has given it a target.
    is_new: bool,
    waits: bool,
}

/// One turn.
pub(super) fn relay<'a>(conn: &'a mut MySqlConnection, relay: &'a Relay) -> Running<'a, Turn> {
    Box::pin(async move {
        match turn(conn, relay).await {
            // Dropped, or a handler's row is gone: made again as soon as somebody reads the catalogue.
            Err(error) if matches!(code(&error), Some(NO_SUCH_TABLE | NULL)) => {
                conn.execute("rollback").await?;
                Ok(moved())
            }
            turn => turn,
        }
    })
}

fn moved() -> Turn {
    let relayed = Relayed { catalogue_moved: true, ..Relayed::default() };
    Turn { relayed, waiting: Waiting::default(), counts: 0 }
}

async fn turn(conn: &mut MySqlConnection, relay: &Relay) -> Result<Turn, SqlxError> {
    let Some(found) = find(conn, relay).await? else { return Ok(moved()) };
    let mut turn = Turn { relayed: Relayed::default(), waiting: Waiting::default(), counts: 0 };
    // Others have in hand what is due.
    if found.is_empty() {
        turn.relayed.next_due = next_of(conn, relay).await?.map(|next| next.max(OTHERS_LOOK));
        return Ok(turn);
    }
    let (mut sorted, mut counts) = (Sorted::default(), Counts::default());
    let untaken = Untaken::of(&found);
    let mut fans: Vec<(Found, Fan)> = Vec::new();
    let mut leasable: Vec<OutboxRow> = Vec::new();
    for found in found {
        if found.is_new {
            let fan = (relay.fan_out)(&found.row);
            fans.push((found, fan));
        } else {
            leasable.push(found.row);
        }
    }
    let is_ordered = fans.iter().any(|(_, fan)| fan.is_ordered());
    let first_untaken = if is_ordered { untaken.first(conn).await? } else { None };
    let mut taken_keys: Vec<(i64, Key)> = Vec::new();
    for (found, fan) in fans {
        let row = found.row;
        if let Some(delay) = fan.later {
            sorted.later.entry(time::delay_ms(delay)).or_default().push(row.row);
        } else if fan.is_ordered() && first_untaken.is_some_and(|first| first < row.row) {
            sorted.waiting.push(row.row);
        } else if fan.elsewhere.is_empty() {
            sorted.here.extend(fan.here);
            sorted.done.push(row.row);
        } else if relay.target.is_none() {
            sorted.later.entry(time::delay_ms(UNKNOWN_LOOK)).or_default().push(row.row);
        } else {
            taken_keys.extend(fan.keys_elsewhere().into_iter().map(|key| (row.row, key)));
            sorted.here.extend(fan.here);
            sorted.taken.push(row.row);
            leasable.push(row);
        }
    }
    insert(conn, sorted.here.iter().collect(), &mut counts).await?;
    let target = relay.target.as_ref().map_or_else(String::new, |target| text_literal(target.as_str()));
    if !taken_keys.is_empty() {
        let row = |(row, key): &(i64, Key)| format!("({},{target},{row})", hex(key.to_bytes()));
        let rows = list(taken_keys.iter().map(row));
        write(
            conn,
            format!(
                "insert into evented_outbox_keys (order_key, target, seq) values {rows} \
            on duplicate key update seq = values(seq)"
            ),
        )
        .await?;
    }
    let mut statements = sorted.statements();
    turn.relayed.done = sorted.done.len();
    match relay.elsewhere {
        Elsewhere::Leave(delay) => {
            turn.relayed.put_off = sorted.taken.len();
            statements.extend(postpone(
                &sorted.taken,
                &format!("target = {target}, lease = null"),
                time::delay_ms(delay),
            ));
        }
        Elsewhere::Lease => {
            // In the order in which they were written.
            leasable.sort_by_key(|row| row.row);
            let ordered = !taken_keys.is_empty() || leasable.len() > sorted.taken.len();
            let line = if ordered { Line::of(conn, &leasable, &target).await? } else { Line::default() };
            let (waits, leased): (Vec<_>, Vec<_>) =
                leasable.into_iter().partition(|row| line.waits.contains_key(&row.row));
            turn.relayed.put_off = waits.iter().filter(|row| sorted.taken.contains(&row.row)).count();
            let token = LeaseToken::mint();
            let rows: Vec<_> = leased.iter().map(|row| row.row).collect();
            let set = format!("target = {target}, lease = {}", token.to_i64());
            statements.extend(postpone(&rows, &set, time::delay_ms(relay.lease)));
            statements.extend(line.postpone(&target));
            turn.waiting = line.waiting();
            turn.relayed.claimed = leased.into_iter().map(|row| OutboxRow { token: Some(token), ..row }).collect();
        }
    }
    let claims = match &relay.claim {
        Some(asked) if !sorted.here.is_empty() => {
            write_all(conn, statements).await?;
            let due = claim::due(conn, asked, &[]).await?;
            claim::lease(conn, &due, asked.lease, &mut counts).await?
        }
        _ => {
            statements.extend(counts.statements());
            write_all(conn, statements).await?;
            Claims::default()
        }
    };
    turn.counts = counts.rows();
    turn.relayed = turn.relayed.with(&sorted.here, claims);
    if turn.relayed.done + turn.relayed.put_off + turn.relayed.claimed.len() == 0 {
        turn.relayed.next_due = next_of(conn, relay).await?.map(|next| next.max(OTHERS_LOOK));
    }
    Ok(turn)
}

/// What becomes of new rows.
#[derive(Default)]
struct Sorted {
    here: Vec<NewDelivery>,
    done: Vec<i64>,
    taken: Vec<i64>,
    waiting: Vec<i64>,
    later: BTreeMap<i64, Vec<i64>>,
}

impl Sorted {
    /// The statements for those that are not taken.
    fn statements(&self) -> Vec<String> {
        let mut statements = Vec::new();
        if !self.done.is_empty() {
            let done = numbers(self.done.iter().copied());
            statements
                .push(format!("delete from o using evented_outbox o force index (primary) where o.seq in ({done})"));
        }
        for (delay, rows) in &self.later {
            statements.extend(postpone(rows, "lease = null", *delay));
        }
        statements.extend(postpone(&self.waiting, &format!("target = {WAITS}"), time::millis(OTHERS_LOOK)));
        statements
    }
}

/// Lets rows be due after `delay`.
fn postpone(rows: &[i64], set: &str, delay: i64) -> Option<String> {
    (!rows.is_empty()).then(|| {
        format!(
            concat!(
                "update evented_outbox force index (primary) set {}, due_at = ",
                now_ms!(),
                " + {} where seq in ({})"
            ),
            set,
            delay,
            numbers(rows.iter().copied())
        )
    })
}

/// Locks rows that are due, new ones first, of so many bytes; `None` where the catalogue is another.
///
/// By the index, of which the limit locks no more rows than it takes. The catalogue is read after them, so that it has
/// whatever handler was recorded before one of them was emitted.
async fn find(conn: &mut MySqlConnection, relay: &Relay) -> Result<Option<Vec<Found>>, SqlxError> {
    // Payloads that are small beside the limit come with their rows, and others when it is known that there is room.
    let small = relay.bytes / (3 * relay.rows).max(1);
    let kinds = kinds(relay);
    let mut text = BEGIN.to_owned();
    for (kind, is_kind) in kinds.iter().enumerate() {
        text.push_str(&format!(
            concat!(
                "; select {}, seq, event_id, event, correlation, version, emitted_at, due_at,
                    cast(octet_length(payload) as signed), if(octet_length(payload) <= {}, payload, null)
                 from evented_outbox force index (evented_outbox_next) where {} and due_at <= ",
                now_ms!(),
                " order by due_at, seq limit {} for update skip locked"
            ),
            kind,
            i64::try_from(small).unwrap_or(i64::MAX),
            is_kind,
            relay.rows
        ));
    }
    text.push_str(concat!("; select -1, ", generation!()));
    let mut rows = Vec::new();
    for row in read(conn, text).await? {
        if row.try_get::<i64, _>(0)? < 0 {
            if row.try_get::<i64, _>(1)?.cast_unsigned() != relay.generation {
                return Ok(None);
            }
        } else {
            rows.push(row);
        }
    }
    let kind_and_due = |row: &MySqlRow| (row.get::<i64, _>(0) == 2, row.get::<i64, _>(7), row.get::<i64, _>(1));
    rows.sort_by_key(kind_and_due);
    let mut bytes = 0;
    let mut found = Vec::new();
    let mut large = HashMap::new();
    for row in rows.iter().take(relay.rows) {
        bytes += usize::try_from(row.try_get::<i64, _>(8)?).unwrap_or(usize::MAX);
        if bytes > relay.bytes && !found.is_empty() {
            break;
        }
        let kind: i64 = row.try_get(0)?;
        let mut outbox_row = outbox_row(row)?;
        if kind == 2 {
            outbox_row.target.clone_from(&relay.target);
        }
        match row.try_get::<Option<&[u8]>, _>(9)? {
            Some(payload) => outbox_row.payload = payload.into(),
            None => drop(large.insert(outbox_row.row, found.len())),
        }
        found.push(Found { row: outbox_row, due_at: row.try_get(7)?, is_new: kind < 2, waits: kind == 1 });
    }
    if !large.is_empty() {
        let text = format!("select seq, payload from evented_outbox where seq in ({})", numbers(large.keys().copied()));
        for row in read(conn, text).await? {
            if let Some(at) = large.get(&row.try_get::<i64, _>(0)?) {
                found[*at].row.payload = row.try_get::<&[u8], _>(1)?.into();
            }
        }
    }
    // In the order of their commits, whenever they were due.
    found.sort_by_key(|found| found.row.row);
    Ok(Some(found))
}

/// The kinds of rows that a relay takes, in the order in which it does: new, waiting, and those of its target.
fn kinds(relay: &Relay) -> Vec<String> {
    let mut kinds = vec!["target is null".to_owned(), format!("target = {WAITS}")];
    if let (Elsewhere::Lease, Some(target)) = (relay.elsewhere, &relay.target) {
        kinds.push(format!("target = {}", text_literal(target.as_str())));
    }
    kinds
}

fn outbox_row(row: &MySqlRow) -> Result<OutboxRow, SqlxError> {
    let event_id = event_id(row.try_get(2)?)?;
    Ok(OutboxRow {
        row: row.try_get(1)?,
        token: None,
        event_id,
        event: row.try_get(3)?,
        origin: Origin::from_bytes(event_id, row.try_get(4)?),
        version: count(row.try_get(5)?)?,
        emitted_unix_ms: row.try_get(6)?,
        target: None,
        payload: [].into(),
    })
}

/// How long until a row is due that this relay would take; zero when one is.
pub(super) fn next_row<'a>(conn: &'a mut MySqlConnection, relay: &'a Relay) -> Running<'a, Option<Duration>> {
    Box::pin(async move {
        match next_of(conn, relay).await {
            // The turn says what is to be done.
            Err(error) if code(&error) == Some(NO_SUCH_TABLE) => Ok(Some(Duration::ZERO)),
            next => next,
        }
    })
}

async fn next_of(conn: &mut MySqlConnection, relay: &Relay) -> Result<Option<Duration>, SqlxError> {
    let first = |is_kind: String| {
        format!(
            concat!(
                "(select due_at - ",
                now_ms!(),
                " from evented_outbox force index (evented_outbox_next) where {} order by due_at limit 1)"
            ),
            is_kind
        )
    };
    let text = kinds(relay).into_iter().map(first).collect::<Vec<_>>().join(" union all ");
    let mut next: Option<i64> = None;
    for row in read(conn, text).await? {
        let due_in: i64 = row.try_get(0)?;
        next = Some(next.map_or(due_in, |next| next.min(due_in)));
    }
    Ok(next.map(time::from_millis))
}

/// What tells of rows before those of the turn that nobody has taken yet: deliveries of an order key wait for them, since they
/// may have their key. One that waits so itself holds up those behind it.
struct Untaken {
    rows: String,
    last: i64,
    /// A row that was emitted before one of the turn was due before it, unless it was to be late.
    due: String,
}

impl Untaken {
    fn of(found: &[Found]) -> Self {
        let new = || found.iter().filter(|found| found.is_new);
        let due = new().map(|found| found.due_at).max().unwrap_or(0);
        Self {
            rows: numbers(found.iter().map(|found| found.row.row)),
            last: new().map(|found| found.row.row).max().unwrap_or(0),
            // One that has waited is due since another time than it was.
            due: if new().any(|found| found.waits) { now_ms!().to_owned() } else { due.to_string() },
        }
    }

    async fn first(&self, conn: &mut MySqlConnection) -> Result<Option<i64>, SqlxError> {
        let Self { rows, last, due } = self;
        let text = format!(
            "select min(seq) from evented_outbox force index (evented_outbox_next)
                where target is null and due_at <= {due} and seq < {last} and seq not in ({rows})
             union all select min(seq) from evented_outbox force index (evented_outbox_next)
                where target = {WAITS} and seq < {last} and seq not in ({rows})"
        );
        let mut first: Option<i64> = None;
        for row in read(conn, text).await? {
            let seq: Option<i64> = row.try_get(0)?;
            first = first.into_iter().chain(seq).min();
        }
        Ok(first)
    }
}

/// The line of each order key, of what goes elsewhere.
#[derive(Default)]
struct Line {
    /// Rows of the turn that are not the next of their keys, with when what they wait for is due.
    waits: HashMap<i64, i64>,
    before: HashSet<i64>,
}

impl Line {
    /// Who of these rows, in order, waits: for earlier ones that are not among them, or for one among them that waits.
    async fn of(conn: &mut MySqlConnection, rows: &[OutboxRow], target: &str) -> Result<Self, SqlxError> {
        let asked: Vec<_> = rows.iter().map(|row| row.row).collect();
        let mut keys: HashMap<i64, Vec<[u8; 16]>> = HashMap::new();
        for key in keys_of(conn, &asked).await? {
            keys.entry(key.row).or_default().push(key.order_key);
        }
        let mut line = Self::default();
        if keys.is_empty() {
            return Ok(line);
        }
        let asked = numbers(asked);
        let text = format!(
            "select h.order_key, h.seq, coalesce(o.due_at, 0) from (
                select k.order_key, (select p.seq from evented_outbox_keys p
                    where p.order_key = k.order_key and p.target = {target} and p.seq not in ({asked})
                    order by p.seq limit 1) as seq
                from (select distinct order_key from evented_outbox_keys where seq in ({asked})) k) h
             left join evented_outbox o on o.seq = h.seq where h.seq is not null"
        );
        // By key: the first that is not of the turn, or that waits.
        let mut firsts: HashMap<[u8; 16], (i64, i64)> = HashMap::new();
        for row in read(conn, text).await? {
            firsts.insert(id_bytes(row.try_get(0)?)?, (row.try_get(1)?, row.try_get(2)?));
        }
        for row in rows {
            let keys = keys.get(&row.row).map_or(&[][..], Vec::as_slice);
            let before = keys.iter().filter_map(|key| firsts.get(key)).filter(|(first, _)| *first < row.row);
            let Some((before, due_at)) = before.copied().min() else { continue };
            line.waits.insert(row.row, due_at);
            line.before.insert(before);
            for key in keys {
                let first = firsts.entry(*key).or_insert((row.row, due_at));
                if first.0 > row.row {
                    *first = (row.row, due_at);
                }
            }
        }
        Ok(line)
    }

    /// Lets them be due again when what they wait for is finished, or may be.
    fn postpone(&self, target: &str) -> Vec<String> {
        let mut by_due: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for (row, due_at) in &self.waits {
            by_due.entry(*due_at).or_default().push(*row);
        }
        let statement = |(due_at, rows): (i64, Vec<i64>)| {
            format!(
                concat!(
                    "update evented_outbox force index (primary) set target = {}, lease = null, due_at = greatest({}, ",
                    now_ms!(),
                    " + {}) where seq in ({})"
                ),
                target,
                due_at,
                time::millis(WAITS_LOOK),
                numbers(rows)
            )
        };
        by_due.into_iter().map(statement).collect()
    }

    fn waiting(self) -> Waiting {
        Waiting { rows: self.waits.into_keys().collect(), before: self.before.into_iter().collect() }
    }
}

/// Looks, after the commit, whether what rows wait for is there still: who finished it before that commit could not see them.
pub(super) fn look_again<'a>(conn: &'a mut MySqlConnection, waiting: &'a Waiting) -> Running<'a, bool> {
    Box::pin(async move {
        let text = format!("select seq from evented_outbox where seq in ({})", numbers(waiting.before.iter().copied()));
        let mut gone: HashSet<i64> = waiting.before.iter().copied().collect();
        for row in read(conn, text).await? {
            gone.remove(&row.try_get(0)?);
        }
        if gone.is_empty() {
            return Ok(false);
        }
        // The key of a row that somebody has deleted by hand would hold up others for good.
        write(conn, delete_keys(&numbers(gone))).await?;
        let mut rows = waiting.rows.clone();
        rows.sort_unstable();
        wake(conn, &rows).await?;
        Ok(true)
    })
}
