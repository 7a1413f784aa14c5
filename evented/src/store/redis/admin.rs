//! What a person looks at and decides: counts, paused queues, dead letters.

use redis::{Cmd, Value};

use crate::{
    error::StoreError,
    id::DeliveryId,
    store::{DeadLetter, Letters, ONCE_COUNT, ONCE_RETENTION, Retention, Stats, Step, StoreTime, StoredCount, Swept},
    time,
};

use super::{
    body::{self, take},
    catalogue::Entry,
    changes::Changes,
    link::Link,
    script::{DEAD, LETTERS, PAUSE, STATS, SWEEP, bytes, count, int, list, strange, text, tuple},
};

/// How many dead letters one call reads: their payloads are all in one answer.
const PAGE: u32 = 100;
/// How many one call requeues, discards or sweeps, and how many bytes of them: a script keeps everybody else waiting.
const STEP: u32 = 200;
const STEP_BYTES: u32 = 4 * 1024 * 1024;
/// How many marks of what was pushed once a sweep forgets: they are deleted by their places, without a look at each.
const STEP_ONCE: u32 = 2_000;
/// How many of those that wait for their order key it looks at.
const STEP_WAITING: u32 = 500;

pub(super) async fn stats(link: &Link) -> Result<Stats, StoreError> {
    let [paused, handlers] = tuple(link.call(&STATS, |_| {}).await?)?;
    let mut paused = list(paused)?.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
    paused.sort();
    let mut handlers = list(handlers)?.into_iter().map(stored_count).collect::<Result<Vec<_>, _>>()?;
    handlers.sort_by(|a, b| a.handler.cmp(&b.handler));
    Ok(Stats { handlers, paused })
}

fn stored_count(value: Value) -> Result<StoredCount, StoreError> {
    let [handler, entry, stored, running, done, retried, dead, due_for] = tuple(value)?;
    let entry = Entry::parse(&text(entry)?)?;
    let (stored, running): (u64, u64) = (count(&stored)?, count(&running)?);
    let due_for = int(&due_for)?;
    Ok(StoredCount {
        handler: text(handler)?,
        route: entry.route(),
        event: entry.event,
        queue: entry.queue,
        waiting: stored.saturating_sub(running),
        running,
        done: count(&done)?,
        retried: count(&retried)?,
        dead: count(&dead)?,
        due_for: (due_for >= 0).then(|| time::from_millis(due_for / 1_000)),
    })
}

pub(super) async fn pause(link: &Link, changes: &Changes, queue: &str, paused: bool) -> Result<(), StoreError> {
    let fill = |command: &mut Cmd| {
        command.arg(changes.origin()).arg(queue).arg(u8::from(paused));
    };
    link.call(&PAUSE, fill).await?;
    changes.here();
    Ok(())
}

pub(super) async fn dead_letters(
    link: &Link,
    handler: Option<&str>,
    limit: u32,
) -> Result<Vec<DeadLetter>, StoreError> {
    let mut letters = Vec::new();
    let mut from = "+inf".to_owned();
    while letters.len() < limit as usize {
        let page = PAGE.min(limit - u32::try_from(letters.len()).unwrap_or(u32::MAX));
        let fill = |command: &mut Cmd| {
            let which = if handler.is_some() { "of" } else { "all" };
            command.arg(which).arg(handler.unwrap_or("")).arg(&from).arg(page);
        };
        let [last, found] = tuple(link.call(&DEAD, fill).await?)?;
        let last = text(last)?;
        for letter in list(found)? {
            letters.push(dead_letter(letter)?);
        }
        if last == "0" {
            break;
        }
        from = format!("({last}");
    }
    Ok(letters)
}

fn dead_letter(value: Value) -> Result<DeadLetter, StoreError> {
    let [id, handler, entry, letter] = tuple(value)?;
    let (id, letter) = (bytes(id)?, bytes(letter)?);
    let wrong = || strange(&Value::BulkString(id.clone()));
    let mut rest = &letter[..];
    // The numbers of its handler and of its payload's version.
    take::<8>(&mut rest).ok_or_else(wrong)?;
    let attempts = u32::from_be_bytes(take(&mut rest).ok_or_else(wrong)?);
    let _deaths = take::<4>(&mut rest).ok_or_else(wrong)?;
    let died_unix_ms = i64::from_be_bytes(take(&mut rest).ok_or_else(wrong)?);
    let error_bytes = u32::from_be_bytes(take(&mut rest).ok_or_else(wrong)?);
    let (error, stored) = rest.split_at_checked(error_bytes as usize).ok_or_else(wrong)?;
    let body = body::unpack(stored).ok_or_else(wrong)?;
    let entry = text(entry)?;
    Ok(DeadLetter {
        id: DeliveryId::from_bytes(id[..].try_into().map_err(|_| wrong())?),
        event_id: body.event_id,
        handler: text(handler)?,
        event: if entry.is_empty() { String::new() } else { Entry::parse(&entry)?.event },
        attempts,
        error: String::from_utf8_lossy(error).into_owned(),
        died_at: time::from_unix_ms(died_unix_ms),
        payload: body.payload,
    })
}

pub(super) async fn requeue(
    link: &Link,
    changes: &Changes,
    letters: &Letters,
    up_to: StoreTime,
) -> Result<Step, StoreError> {
    let step = take_letters(link, changes, "requeue", letters, up_to).await?;
    if step.count > 0 {
        changes.here();
    }
    Ok(step)
}

pub(super) async fn discard(
    link: &Link,
    changes: &Changes,
    letters: &Letters,
    up_to: StoreTime,
) -> Result<Step, StoreError> {
    take_letters(link, changes, "discard", letters, up_to).await
}

/// Takes some dead letters, of those that died at `up_to` or before: what is requeued may die again meanwhile.
async fn take_letters(
    link: &Link,
    changes: &Changes,
    action: &str,
    letters: &Letters,
    up_to: StoreTime,
) -> Result<Step, StoreError> {
    let fill = |command: &mut Cmd| {
        command.arg(changes.origin()).arg(action);
        match letters {
            Letters::One(id) => command.arg("one").arg(&id.to_bytes()),
            Letters::Of(handler) => command.arg("of").arg(handler),
        };
        command.arg(up_to.0).arg(STEP).arg(STEP_BYTES);
    };
    read_step(link.call(&LETTERS, fill).await?)
}

fn read_step(answer: Value) -> Result<Step, StoreError> {
    let [step, more] = tuple(answer)?;
    Ok(Step { count: count(&step)?, more: int(&more)? == 1 })
}

pub(super) async fn sweep(link: &Link, changes: &Changes, retention: &Retention) -> Result<Swept, StoreError> {
    let fill = |command: &mut Cmd| {
        command
            .arg(changes.origin())
            .arg(time::micros(ONCE_RETENTION))
            .arg(ONCE_COUNT)
            .arg(STEP_ONCE)
            .arg(STEP_WAITING);
    };
    let [more_once, forgotten] = tuple(link.call(&SWEEP, fill).await?)?;
    let fill = |command: &mut Cmd| {
        command.arg(changes.origin()).arg("sweep").arg("old").arg(retention.count);
        command.arg(time::micros(retention.age)).arg(STEP).arg(STEP_BYTES);
    };
    let letters = read_step(link.call(&LETTERS, fill).await?)?;
    let more = letters.more || int(&more_once)? == 1;
    Ok(Swept { dead_letters: letters.count, forgotten_early: count(&forgotten)?, more })
}
