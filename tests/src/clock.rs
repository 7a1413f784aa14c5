//! A clock that all processes of the machine share, and that nobody sets: what one process stamps, another compares.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time since the machine was started, or some such moment.
pub fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(
        now.tv_sec.try_into().expect("this clock begins at zero"),
        now.tv_nsec.try_into().expect("a second has nanoseconds enough for 32 bits"),
    )
}

/// How long ago a moment of [`now`] was.
pub fn since(moment: Duration) -> Duration {
    now().saturating_sub(moment)
}

/// The time in nanoseconds, for a payload or a line of text.
pub fn nanos() -> u64 {
    u64::try_from(now().as_nanos()).expect("it lasts for 584 years")
}

/// How long ago a moment of [`nanos`] was.
pub fn since_nanos(moment: u64) -> Duration {
    since(Duration::from_nanos(moment))
}
