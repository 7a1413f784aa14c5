//! The verdict: what an attempt's end means for its delivery, and the line in the log that says so.

use crate::{
    def::Stores,
    error::{HandlerResult, Retry, in_one_line, retry_of, tamed},
    guard::{Guarded, guarded},
    registry::Linked,
    retry::Policy,
    store::{Claimed, Outcome},
};

use super::attempt::{Decoded, Interrupt};

/// Decodes the payload; a panic of the event's own `Deserialize` is an error like others. What it said may quote the payload,
/// and is left out.
pub(super) fn decode(stored: Stores, claimed: &Claimed) -> Result<Decoded, String> {
    let decoded = guarded(|| (stored.decode.read)(claimed.version, &claimed.payload));
    decoded.unwrap_or_else(|_| Err("its `Deserialize` panicked".into())).map(Guarded::new).map_err(|error| {
        format!(
            "the payload could not be decoded: {}; give new fields `#[serde(default)]`, or requeue it with a release that \
             reads it",
            tamed(error)
        )
    })
}

/// What an attempt's end means for its delivery.
pub(super) fn judge(handler: &Linked, policy: Policy, claimed: &Claimed, ended: HandlerResult) -> Outcome {
    let Err(error) = ended else { return Outcome::Completed };
    match error.downcast_ref::<Interrupt>() {
        Some(Interrupt::Lost) => return note_lost(handler, claimed),
        Some(Interrupt::Stopped) => {
            tracing::warn!(handler = %handler.id, delivery = %claimed.lease.delivery,
                "the grace of the stop is over: a running delivery was dropped, and will run again");
            return Outcome::Released;
        }
        Some(Interrupt::TimedOut(_)) | None => {}
    }
    let failed = claimed.failed.saturating_add(1);
    let text = in_one_line(&*error);
    let delay = match retry_of(&*error) {
        Retry::Never => return judge_dead(handler, claimed, failed, text),
        _ if failed >= policy.attempts_max => return judge_dead(handler, claimed, failed, text),
        Retry::After(delay) => delay,
        Retry::WithBackoff => policy.backoff.delay(failed),
    };
    tracing::warn!(handler = %handler.id, place = %handler.place, delivery = %claimed.lease.delivery,
        event_id = %claimed.event_id, attempt = failed, attempts_max = policy.attempts_max, retry_in = ?delay, error = %text,
        "a delivery failed and will be tried again");
    Outcome::Retry { delay, error: text }
}

pub(super) fn judge_dead(handler: &Linked, claimed: &Claimed, failed: u32, error: String) -> Outcome {
    tracing::error!(handler = %handler.id, place = %handler.place, delivery = %claimed.lease.delivery,
        event_id = %claimed.event_id, attempts = failed, %error, "a delivery goes to the dead letters");
    Outcome::Dead { failed, error }
}

pub(super) fn note_lost(handler: &Linked, claimed: &Claimed) -> Outcome {
    tracing::warn!(handler = %handler.id, delivery = %claimed.lease.delivery,
        "the lease of a delivery was lost; it runs again, and no attempt is counted");
    // Where nobody has it yet, it need not wait for the end of its lease.
    Outcome::Released
}
