//! A turn of the relay, in one transaction, which it begins.
//!
//! A row is new, with a target of null, until a turn has taken it. Then it is gone, or has the queue that the rest of it goes to
//! as its target. So one index finds the first of each kind, and a million rows that wait for an absent queue, or for their
//! time, stand in nobody's way.
//!
//! The rows of the turn are locked, and those that another relay has locked are passed by. Whoever has locked them, they are
//! in sight until its commit: so is what a row with an order key must wait for. It is left as it is meanwhile, since whoever has
//! the first of all goes on.
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
    store::{Claims, Elsewhere, Fan, NewDelivery, OutboxRow, Relay, Relayed, Taken},
    time,
};

use super::{
    claim,
    counts::{Counts, write_all},
    identity::generation,
    link::{BEGIN, NO_SUCH_TABLE, NULL, Running, code, read, write},
    outbox::{delete_keys, delete_taken, keys_of, wake},
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

/// A new row of the turn and who gets it.
struct Fanned {
    row: OutboxRow,
    fan: Fan,
}

/// What a turn has found.
#[derive(Default)]
struct Finds {
    /// In the order in which they were written.
    rows: Vec<OutboxRow>,
    /// New rows whose delay is over.
    ripe: Vec<i64>,
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
    let mut statements: Vec<_> = become_ready(&found.ripe).into_iter().collect();
    // Others have in hand what is due.
    if found.rows.is_empty() {
        write_all(conn, statements).await?;
        turn.relayed.next_due = next_of(conn, relay).await?.map(|next| next.max(OTHERS_LOOK));
        return Ok(turn);
    }
    let (mut sorted, mut counts) = (Sorted::default(), Counts::default());
    let asked: Vec<_> = found.rows.iter().map(|row| row.row).collect();
    let mut fans: Vec<Fanned> = Vec::new();
    let mut leasable: Vec<OutboxRow> = Vec::new();
    for row in found.rows {
        let fan = (relay.fan_out)(&row);
        if row.taken.is_none() {
            fans.push(Fanned { row, fan });
            continue;
        }
        sorted.here.extend(fan.here);
        if fan.elsewhere.is_empty() { sorted.done_later.push(row.row) } else { leasable.push(row) }
    }
    let last_ordered = fans.iter().filter(|it| it.fan.is_ordered()).map(|it| it.row.row).next_back();
    let first_untaken = match last_ordered {
        Some(last) => first_untaken(conn, &asked, last).await?,
        None => None,
    };
    let mut taken_keys: Vec<(i64, Key)> = Vec::new();
    for Fanned { row, fan } in fans {
        if let Some(delay) = fan.later {
            sorted.later.entry(time::delay_ms(delay)).or_default().push(row.row);
        } else if fan.is_ordered() && first_untaken.is_some_and(|first| first < row.row) {
            // Left as it is.
        } else if fan.elsewhere.is_empty() {
            sorted.here.extend(fan.here);
            sorted.done.push(row.row);
        } else if let Some(target) = &relay.target {
            taken_keys.extend(fan.keys_elsewhere().into_iter().map(|key| (row.row, key)));
            let taken = Taken::of(target, &fan);
            sorted.here.extend(fan.here);
            sorted.taken.entry(taken.handlers_as_text()).or_default().push(row.row);
            leasable.push(OutboxRow { taken: Some(taken), ..row });
        } else {
            sorted.later.entry(time::delay_ms(UNKNOWN_LOOK)).or_default().push(row.row);
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
    statements.extend(sorted.statements());
    turn.relayed.done = sorted.done.len() + sorted.done_later.len();
    let has_keys = !taken_keys.is_empty();
    statements.extend(go_on(conn, relay, &sorted.taken, leasable, has_keys, &mut turn).await?);
    let claims = match &relay.claim {
        Some(asked) if !sorted.here.is_empty() => {
            write_all(conn, statements).await?;
            delete_taken(conn, &sorted.done_later).await?;
            let due = claim::due(conn, asked, &[]).await?;
            claim::lease(conn, &due, asked, &mut counts).await?
        }
        _ => {
            statements.extend(counts.statements());
            write_all(conn, statements).await?;
            delete_taken(conn, &sorted.done_later).await?;
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

/// What goes elsewhere is leased, or left; answers the statements for that.
async fn go_on(
    conn: &mut MySqlConnection,
    relay: &Relay,
    new: &BTreeMap<String, Vec<i64>>,
    mut rows: Vec<OutboxRow>,
    has_keys: bool,
    turn: &mut Turn,
) -> Result<Vec<String>, SqlxError> {
    let Some(target) = relay.target.as_ref().map(|target| text_literal(target.as_str())) else { return Ok(Vec::new()) };
    if let Elsewhere::Leave(delay) = relay.elsewhere {
        turn.relayed.put_off = new.values().map(Vec::len).sum();
        let leave = |(handlers, rows): (&String, &Vec<i64>)| {
            let set = format!("target = {target}, handlers = {}, lease = null", text_literal(handlers));
            postpone(rows, &set, time::delay_ms(delay))
        };
        return Ok(new.iter().filter_map(leave).collect());
    }
    // In the order in which they were written.
    rows.sort_by_key(|row| row.row);
    let new: HashMap<i64, &str> =
        new.iter().flat_map(|(handlers, rows)| rows.iter().map(|row| (*row, &**handlers))).collect();
    let is_ordered = has_keys || rows.len() > new.len();
    let line = if is_ordered { Line::of(conn, &rows, &target).await? } else { Line::default() };
    let (waits, leased): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| line.waits.contains_key(&row.row));
    turn.relayed.put_off = waits.iter().filter(|row| new.contains_key(&row.row)).count();
    let lease = LeaseToken::mint();
    let mut statements = Vec::new();
    // What new rows are taken for is written with their lease.
    for (handlers, rows) in by_handlers(&leased, &new) {
        let handlers = handlers.map(|handlers| format!(", handlers = {}", text_literal(handlers)));
        let set = format!("target = {target}{}, lease = {}", handlers.unwrap_or_default(), lease.to_i64());
        statements.extend(postpone(&rows, &set, time::delay_ms(relay.lease)));
    }
    statements.extend(line.postpone(&target));
    for (handlers, rows) in by_handlers(&waits, &new) {
        statements.extend(handlers.map(|handlers| write_handlers(handlers, &rows)));
    }
    turn.waiting = line.waiting();
    turn.relayed.claimed = leased.into_iter().map(|row| OutboxRow { token: Some(lease), ..row }).collect();
    Ok(statements)
}

/// What becomes of the turn's rows.
#[derive(Default)]
struct Sorted {
    here: Vec<NewDelivery>,
    done: Vec<i64>,
    /// Those that had a target, and perhaps keys.
    done_later: Vec<i64>,
    /// New ones that go on elsewhere, by whom they go to.
    taken: BTreeMap<String, Vec<i64>>,
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
        statements
    }
}

/// New rows may be taken now.
fn become_ready(rows: &[i64]) -> Option<String> {
    (!rows.is_empty()).then(|| {
        let rows = numbers(rows.iter().copied());
        format!("update evented_outbox force index (primary) set due_at = 0 where seq in ({rows})")
    })
}

/// Rows by whom they go to, where that is to be written.
fn by_handlers<'t>(rows: &[OutboxRow], taken: &HashMap<i64, &'t str>) -> BTreeMap<Option<&'t str>, Vec<i64>> {
    let mut by_handlers: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows {
        by_handlers.entry(taken.get(&row.row).copied()).or_default().push(row.row);
    }
    by_handlers
}

fn write_handlers(handlers: &str, rows: &[i64]) -> String {
    let (handlers, rows) = (text_literal(handlers), numbers(rows.iter().copied()));
    format!("update evented_outbox force index (primary) set handlers = {handlers} where seq in ({rows})")
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

/// Locks rows: the first new ones, then those of the target that are due, or the other way round, of so many bytes; `None` where the catalogue is
/// another.
///
/// By the index, of which the limit locks no more rows than it takes. The catalogue is read after them, so that it has
/// whatever handler was recorded before one of them was emitted.
async fn find(conn: &mut MySqlConnection, relay: &Relay) -> Result<Option<Finds>, SqlxError> {
    // Payloads that are small beside the limit come with their rows, and others when it is known that there is room.
    let small = i64::try_from(relay.bytes / (3 * relay.rows).max(1)).unwrap_or(i64::MAX);
    let mut text = BEGIN.to_owned();
    let known = target(relay).map(|target| (KNOWN, format!("target = {target} and due_at <= {}", now_ms!())));
    let mut kinds: Vec<_> = [(NEW, "target is null and due_at = 0".to_owned())].into_iter().chain(known).collect();
    if relay.elsewhere == Elsewhere::Nothing {
        kinds.reverse();
    }
    for (kind, is_kind) in kinds {
        text.extend([format!(
            "; select {kind}, seq, event_id, event, correlation, version, emitted_at, target, handlers,
                cast(octet_length(payload) as signed), if(octet_length(payload) <= {small}, payload, null)
             from evented_outbox force index (evented_outbox_next) where {is_kind}
             order by due_at, seq limit {} for update skip locked",
            relay.rows
        )]);
    }
    text.push_str(&format!(
        concat!(
            "; select {}, seq from evented_outbox force index (evented_outbox_next)
                where target is null and due_at > 0 and due_at <= ",
            now_ms!(),
            " order by due_at, seq limit {} for update skip locked"
        ),
        RIPE, relay.rows
    ));
    text.push_str(concat!("; select -1, ", generation!()));
    let (mut rows, mut found) = (Vec::new(), Finds::default());
    for row in read(conn, text).await? {
        match row.try_get::<i64, _>(0)? {
            RIPE => found.ripe.push(row.try_get(1)?),
            NEW | KNOWN => rows.push(row),
            _ if row.try_get::<i64, _>(1)?.cast_unsigned() != relay.generation => return Ok(None),
            _ => {}
        }
    }
    let mut bytes = 0;
    let mut large = HashMap::new();
    for row in rows.iter().take(relay.rows) {
        bytes += usize::try_from(row.try_get::<i64, _>(9)?).unwrap_or(usize::MAX);
        if bytes > relay.bytes && !found.rows.is_empty() {
            break;
        }
        let mut outbox_row = outbox_row(row)?;
        match row.try_get::<Option<&[u8]>, _>(10)? {
            Some(payload) => outbox_row.payload = payload.into(),
            None => drop(large.insert(outbox_row.row, found.rows.len())),
        }
        found.rows.push(outbox_row);
    }
    if !large.is_empty() {
        let text = format!("select seq, payload from evented_outbox where seq in ({})", numbers(large.keys().copied()));
        for row in read(conn, text).await? {
            if let Some(at) = large.get(&row.try_get::<i64, _>(0)?) {
                found.rows[*at].payload = row.try_get::<&[u8], _>(1)?.into();
            }
        }
    }
    found.rows.sort_by_key(|row| row.row);
    Ok(Some(found))
}

/// What a row of `find` is: new, of the relay's target, or new with a delay that is over.
const NEW: i64 = 0;
const KNOWN: i64 = 1;
const RIPE: i64 = 2;

/// The queue whose rows this relay looks at beside new ones, as a literal.
fn target(relay: &Relay) -> Option<String> {
    let leaves = matches!(relay.elsewhere, Elsewhere::Leave(_));
    relay.target.as_ref().filter(|_| !leaves).map(|target| text_literal(target.as_str()))
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
        taken: Taken::read(row.try_get(7)?, row.try_get(8)?).map_err(SqlxError::decode)?,
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
    let known = target(relay).map(|target| format!("target = {target}"));
    let kinds = ["target is null".to_owned()].into_iter().chain(known);
    let text = kinds.map(first).collect::<Vec<_>>().join(" union all ");
    let mut next: Option<i64> = None;
    for row in read(conn, text).await? {
        let due_in: i64 = row.try_get(0)?;
        next = Some(next.map_or(due_in, |next| next.min(due_in)));
    }
    Ok(next.map(time::from_millis))
}

/// The first new row before `last` that is not of the turn: deliveries of an order key wait for it, since it may have their key.
async fn first_untaken(conn: &mut MySqlConnection, turn: &[i64], last: i64) -> Result<Option<i64>, SqlxError> {
    let rows = numbers(turn.iter().copied());
    let text = format!(
        "select seq from evented_outbox force index (evented_outbox_next)
         where target is null and due_at = 0 and seq < {last} and seq not in ({rows}) order by seq limit 1"
    );
    read(conn, text).await?.first().map(|row| row.try_get(0)).transpose()
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
