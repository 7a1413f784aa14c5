//! The room of clocks: nothing else in the crate reads a clock or sleeps.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) use tokio::time::Instant;

/// A point on the monotonic clock: for deadlines and for waiting, never stored.
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A point `duration` from now; one that is too long ends at [`LONGEST`].
pub(crate) fn after(duration: Duration) -> Instant {
    now() + bounded(duration)
}

/// The end of a time that goes on while the process is stopped and while its host sleeps.
///
/// The monotonic clock may stand still while the host sleeps; the wall clock does not, but may be set.
#[derive(Clone, Copy)]
pub(crate) struct End {
    at: Instant,
    unix_ms: i64,
}

impl End {
    pub(crate) fn after(duration: Duration) -> Self {
        Self { at: after(duration), unix_ms: unix_ms().saturating_add(millis(bounded(duration))) }
    }

    /// How long until then by the monotonic clock; zero when it has come.
    pub(crate) fn left(self) -> Duration {
        self.at.saturating_duration_since(now())
    }

    /// Whether it has come by either clock.
    pub(crate) fn may_have_come(self) -> bool {
        self.left().is_zero() || unix_ms() >= self.unix_ms
    }
}

/// Ten years: the longest duration that is reckoned with. What asks for more is a mistake, or means for ever, and must overflow
/// neither our clock nor a store's.
const LONGEST: Duration = Duration::from_hours(24 * 365 * 10);

/// `duration`, or ten years if that is shorter.
pub(crate) fn bounded(duration: Duration) -> Duration {
    duration.min(LONGEST)
}

/// A point on the host's wall clock, in milliseconds since 1970: for what is stored.
pub(crate) fn unix_ms() -> i64 {
    millis_since_1970(SystemTime::now())
}

/// Whole milliseconds since 1970, 0 for a time before it.
pub(crate) fn millis_since_1970(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, millis)
}

/// The stored time that is `delay` from now, at most ten years.
#[cfg(feature = "sqlite")]
pub(crate) fn due_at(delay: Duration) -> i64 {
    unix_ms().saturating_add(delay_ms(delay))
}

/// Whole milliseconds of a delay, at most ten years, for a store that adds them to its own clock.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub(crate) fn delay_ms(delay: Duration) -> i64 {
    millis(bounded(delay))
}

/// Whole microseconds of a delay, at most ten years.
#[cfg(feature = "redis")]
pub(crate) fn micros(delay: Duration) -> i64 {
    i64::try_from(bounded(delay).as_micros()).unwrap_or(i64::MAX)
}

/// The wall-clock time that `unix_ms` stands for.
pub(crate) fn from_unix_ms(unix_ms: i64) -> SystemTime {
    UNIX_EPOCH.checked_add(from_millis(unix_ms)).unwrap_or(UNIX_EPOCH)
}

/// How long from now until `time` on the wall clock; zero when it has passed.
pub(crate) fn until(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::now()).unwrap_or_default()
}

/// Whole milliseconds of a duration, as stores keep them.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The duration of stored milliseconds; a negative count is zero.
pub(crate) fn from_millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// How long ago a stored time was on the wall clock; zero when it is yet to come.
pub(crate) fn since(stored: i64) -> Duration {
    from_millis(unix_ms().saturating_sub(stored))
}

pub(crate) async fn sleep(duration: Duration) {
    tokio::time::sleep(bounded(duration)).await;
}

/// `None` when `future` was not ready within `limit`; it is dropped then.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(bounded(limit), future).await.ok()
}

/// Ticks each `period`, for the first time after one; a late tick is followed by a whole period.
pub(crate) fn tick_every(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval_at(after(period), bounded(period));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}
