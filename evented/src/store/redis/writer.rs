//! Pushes: what arrives together is sent together.
//!
//! A push is sent at once when nothing is under way. While one group waits for its answer the next gathers by itself, and
//! goes as one call of one script. In it each push is all or nothing for itself. When the server cannot be reached, what waits
//! behind has waited, too, and is told so at once.

use std::collections::HashMap;

use redis::{Cmd, Value};
use tokio::sync::{mpsc, oneshot};

use crate::{
    error::{StoreError, Written},
    store::{
        Limits, Locks, NewDelivery, ONCE_COUNT, ONCE_FINISHED, ONCE_RETENTION, Pending, Push, Pushed,
        room::{Place, Room},
    },
    time,
};

use super::{body, changes::Changes, link::Failure, link::Link, script, script::PUSH};

/// At most so many deliveries are gathered in one call, or so many bytes of them. A push that is larger goes alone.
const DELIVERIES_MAX: usize = 1_000;
const BYTES_MAX: usize = 1024 * 1024;
/// The largest push: a server refuses larger commands, and closes the connection with that.
const PUSH_BYTES_MAX: usize = 256 * 1024 * 1024;
const PUSH_DELIVERIES_MAX: usize = 200_000;
/// The same, as it is told: with room for what surrounds the payloads.
pub(super) const LIMITS: Limits = Limits {
    push_bytes: PUSH_BYTES_MAX - 256 * PUSH_DELIVERIES_MAX,
    push_deliveries: PUSH_DELIVERIES_MAX,
    locks: Locks::Rows,
};

const _: () = assert!(ONCE_FINISHED.as_secs() == 120, "as prelude.lua has it");

pub(super) struct Writer {
    /// Unbounded, since nobody sends without a place in the room.
    writes: mpsc::UnboundedSender<Write>,
    room: Room,
}

struct Write {
    push: Push,
    reply: oneshot::Sender<Result<Pushed, StoreError>>,
    _place: Place,
}

impl Writer {
    pub(super) fn start(link: Link, changes: Changes) -> Self {
        let (sender, writes) = mpsc::unbounded_channel();
        tokio::spawn(write_until_closed(link, changes, writes));
        Self { writes: sender, room: Room::new() }
    }

    pub(super) fn push(&self, push: Push) -> Pending<'_, Pushed> {
        let bytes = bytes_of(&push);
        let fits = bytes <= PUSH_BYTES_MAX && push.deliveries.len() <= PUSH_DELIVERIES_MAX;
        Box::pin(async move {
            if !fits {
                let text = format!("a push of {bytes} bytes is more than redis takes at once; emit it in parts");
                return Err(StoreError::lasting(text, Written::Nothing));
            }
            let place = self.room.enter(&push).await?;
            let (reply, answer) = oneshot::channel();
            let sent = self.writes.send(Write { push, reply, _place: place }).is_ok();
            let stopped = |written| {
                let text = "the store was closed: evented has stopped, or the tokio runtime in which it was started has \
                            ended (each `#[tokio::test]` has its own)";
                StoreError::lasting(text, written)
            };
            if !sent {
                return Err(stopped(Written::Nothing));
            }
            answer.await.unwrap_or_else(|_| Err(stopped(Written::Unknown)))
        })
    }
}

fn bytes_of(push: &Push) -> usize {
    push.deliveries.iter().map(|delivery| delivery.payload.len() + 160).sum()
}

async fn write_until_closed(link: Link, changes: Changes, mut writes: mpsc::UnboundedReceiver<Write>) {
    let mut held_back = None;
    loop {
        let Some(first) = (match held_back.take() {
            Some(write) => Some(write),
            None => writes.recv().await,
        }) else {
            return;
        };
        let size = |push: &Push| push.deliveries.len() + push.finished.len();
        let (mut deliveries, mut bytes) = (size(&first.push), bytes_of(&first.push));
        let mut group = vec![first];
        while let Ok(write) = writes.try_recv() {
            deliveries += size(&write.push);
            bytes += bytes_of(&write.push);
            if deliveries > DELIVERIES_MAX || bytes > BYTES_MAX {
                held_back = Some(write);
                break;
            }
            group.push(write);
        }
        if let Err(failure) = write(&link, &changes, group).await {
            for write in held_back.take().into_iter().chain(std::iter::from_fn(|| writes.try_recv().ok())) {
                let _gone = write.reply.send(Err(failure.clone().into()));
            }
        }
    }
}

/// Sends a group and answers each of its pushes. Fails where others need not try.
async fn write(link: &Link, changes: &Changes, group: Vec<Write>) -> Result<(), Failure> {
    let pushes: Vec<&Push> = group.iter().map(|write| &write.push).collect();
    let lanes = Lanes::of(&pushes);
    let answer = link.call(&PUSH, |command| fill(command, changes, &lanes, &pushes)).await;
    let answers = answer.map_err(Answer::Failed).and_then(|answer| read(answer, group.len()));
    if answers.is_ok() {
        changes.here();
    }
    for (at, Write { push, reply, _place }) in group.into_iter().enumerate() {
        let answer = match &answers {
            Ok(answers) => answers.of(at, &push),
            Err(Answer::Failed(failure)) => Err(failure.clone().into()),
            Err(Answer::Strange(value)) => Err(script::strange(value)),
        };
        // Whoever asked may have gone away: the write stands all the same.
        let _gone = reply.send(answer);
    }
    match answers {
        Err(Answer::Failed(failure)) => failure.of_those_behind().map_or(Ok(()), Err),
        Ok(_) | Err(Answer::Strange(_)) => Ok(()),
    }
}

enum Answer {
    Failed(Failure),
    Strange(Value),
}

/// What became of the pushes of a group.
struct Answers {
    /// A letter for each.
    said: Vec<u8>,
    /// Deliveries that were not stored: the push's place and their own in it, in their order.
    left_out: Vec<(usize, usize)>,
}

impl Answers {
    fn of(&self, at: usize, push: &Push) -> Result<Pushed, StoreError> {
        match self.said[at] {
            b's' => {
                let left_out = self.left_out.iter().filter(|(push, _)| *push == at);
                let left_out = left_out.filter_map(|(_, place)| push.deliveries.get(*place));
                Ok(Pushed::Stored(left_out.map(|delivery| delivery.id).collect()))
            }
            b'm' => Ok(Pushed::CatalogueMoved),
            b'l' => Ok(Pushed::TooLate),
            _ => Err(unknown_handler(push)),
        }
    }
}

/// As push.lua answers: a text, or that and a list of what was not stored.
fn read(answer: Value, pushes: usize) -> Result<Answers, Answer> {
    let strange = |_| Answer::Strange(Value::Nil);
    let (said, places) = match answer {
        Value::Array(answer) => {
            let [said, places] = script::tuple(Value::Array(answer)).map_err(strange)?;
            (said, script::list(places).map_err(strange)?)
        }
        said => (said, Vec::new()),
    };
    let said = match said {
        Value::BulkString(said) if said.len() == pushes => said,
        other => return Err(Answer::Strange(other)),
    };
    let (places, _) = places.as_chunks::<2>();
    let place = |value: &Value| script::count::<usize>(value).map(|place| place.saturating_sub(1)).map_err(strange);
    let left_out = places.iter().map(|[push, delivery]| Ok((place(push)?, place(delivery)?)));
    Ok(Answers { said, left_out: left_out.collect::<Result<_, Answer>>()? })
}

fn unknown_handler(push: &Push) -> StoreError {
    let mut handlers: Vec<_> = push.deliveries.iter().map(|delivery| &*delivery.handler).collect();
    handlers.sort_unstable();
    handlers.dedup();
    let text = format!("a push has a delivery for a handler that no process has recorded: `{}`", handlers.join("`, `"));
    StoreError::lasting(text, Written::Nothing)
}

/// The handlers of a group with the versions of the payloads, each once.
struct Lanes<'p> {
    all: Vec<(&'p str, u32)>,
    places: HashMap<(&'p str, u32), usize>,
}

impl<'p> Lanes<'p> {
    fn of(pushes: &[&'p Push]) -> Self {
        let mut lanes = Self { all: Vec::new(), places: HashMap::new() };
        for delivery in pushes.iter().flat_map(|push| push.deliveries.iter()) {
            let lane = (&*delivery.handler, delivery.version);
            lanes.places.entry(lane).or_insert_with(|| {
                lanes.all.push(lane);
                lanes.all.len()
            });
        }
        lanes
    }
}

/// The arguments of push.lua.
fn fill(command: &mut Cmd, changes: &Changes, lanes: &Lanes<'_>, pushes: &[&Push]) {
    command.arg(changes.origin());
    command.arg(time::micros(ONCE_RETENTION)).arg(time::micros(ONCE_FINISHED)).arg(ONCE_COUNT);
    command.arg(lanes.all.len());
    for (handler, version) in &lanes.all {
        command.arg(*handler).arg(*version);
    }
    command.arg(pushes.len());
    for push in pushes {
        command.arg(push.generation);
        if push.once || push.until.is_some() || !push.finished.is_empty() {
            command.arg(u8::from(push.once));
            match push.until {
                Some(until) => command.arg(until.0),
                None => command.arg(""),
            };
            command.arg(push.finished.len());
            for finished in push.finished.iter() {
                command.arg(&finished.to_bytes());
            }
        } else {
            command.arg("");
        }
        command.arg(push.deliveries.len());
        for delivery in push.deliveries.iter() {
            command
                .arg(lanes.places[&(&*delivery.handler, delivery.version)])
                .arg(&delivery.id.to_bytes())
                .arg(terms(delivery))
                .arg(body::pack(delivery));
        }
    }
}

/// What is not usual about a delivery, and nothing where all is: its delay in microseconds, when it was emitted, and for how
/// many milliseconds its unique key is taken; then the key.
fn terms(delivery: &NewDelivery) -> Vec<u8> {
    if delivery.delay.is_zero() && delivery.emitted_unix_ms.is_none() && delivery.unique.is_none() {
        return Vec::new();
    }
    let mut terms = Vec::with_capacity(40);
    terms.extend(time::micros(delivery.delay).to_be_bytes());
    terms.extend(delivery.emitted_unix_ms.unwrap_or(0).to_be_bytes());
    match delivery.unique {
        Some(unique) => {
            terms.extend((time::micros(unique.within) / 1_000).to_be_bytes());
            terms.extend(unique.key.to_bytes());
        }
        None => terms.extend(0_i64.to_be_bytes()),
    }
    terms
}
