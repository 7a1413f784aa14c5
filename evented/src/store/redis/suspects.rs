//! Suspects, and the end of a session.

use redis::Cmd;

use crate::{
    error::StoreError,
    id::{LeaseToken, SessionId},
    store::{Blame, CHARGES_MAX, Suspected, Suspects, lived_for_trial},
    time,
};

use super::{
    link::Link,
    queue::{MANY, read_claimed, session_bytes},
    script::{LEAVE, SUSPECTS, bytes, count, int, list, strange, tuple},
};

/// Claims suspects; answers also how many had lost their bodies, and were dropped.
pub(super) async fn claim(link: &Link, asked: &Suspects) -> Result<(Suspected, u64), StoreError> {
    let token = LeaseToken::mint();
    // Against how many charges the asking session may try one: from none on, `1` or `0` for each.
    let tries: String = match asked.tried {
        Some(lived) => (0..=CHARGES_MAX)
            .map(|charges| if lived >= lived_for_trial(asked.lease, charges) { '1' } else { '0' })
            .collect(),
        None => String::new(),
    };
    let fill = |command: &mut Cmd| {
        command.arg(&token.to_i64().to_be_bytes()).arg(time::micros(asked.lease)).arg(&session_bytes(asked.session));
        command.arg(asked.exposed.min(MANY)).arg(&tries).arg(asked.queues.len());
        for queue in &asked.queues {
            command.arg(&*queue.name).arg(queue.handlers.len());
            for handler in &queue.handlers {
                command.arg(&*handler.name).arg(handler.version);
            }
        }
    };
    let [dropped, more, claimed] = tuple(link.call(&SUSPECTS, fill).await?)?;
    let mut suspected = Suspected { more: int(&more)? == 1, ..Suspected::default() };
    for suspect in list(claimed)? {
        let [kind, queue, handler, num, version, id, body, failed, deaths, charges] = tuple(suspect)?;
        let (queue, handler): (usize, usize) = (count(&queue)?, count(&handler)?);
        let place = queue.checked_sub(1).zip(handler.checked_sub(1));
        let asked = place.and_then(|(queue, handler)| asked.queues.get(queue)?.handlers.get(handler));
        let name = &asked.ok_or_else(|| strange(&kind))?.name;
        let id = bytes(id)?.try_into().map_err(|_| strange(&num))?;
        let mut claimed = read_claimed(name, token, [&num, &version], id, body)?;
        claimed.failed = count(&failed)?;
        claimed.blame = Blame { deaths: count(&deaths)?, charges: count(&charges)? };
        if int(&kind)? == 1 {
            suspected.exposed.push(claimed);
        } else {
            suspected.tried = Some(claimed);
        }
    }
    Ok((suspected, count(&dropped)?))
}

pub(super) async fn leave(link: &Link, session: SessionId) -> Result<(), StoreError> {
    let fill = |command: &mut Cmd| {
        command.arg(&session_bytes(session));
    };
    link.call(&LEAVE, fill).await?;
    Ok(())
}
