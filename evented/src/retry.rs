//! How often a delivery is attempted, how long one attempt may take, and how long to wait between two.

use std::{fmt, time::Duration};

use crate::id;

/// The wait before the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// Doubles from `first` up to `max`, with full jitter: the wait is drawn evenly from zero to that. Jitter keeps the
    /// deliveries that failed together from coming back together
    /// (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).
    Exponential {
        /// The longest wait after the first failed attempt.
        first: Duration,
        /// The longest wait of all.
        max: Duration,
    },
    /// The same wait each time, without jitter.
    Fixed(Duration),
}

impl Backoff {
    /// The wait after `failed` failed attempts; `failed` counts from 1.
    #[must_use]
    pub fn delay(self, failed: u32) -> Duration {
        match self {
            Self::Exponential { .. } => id::up_to(self.longest(failed)),
            Self::Fixed(delay) => delay,
        }
    }

    /// The longest wait that [`delay`](Self::delay) may answer.
    #[must_use]
    pub fn longest(self, failed: u32) -> Duration {
        match self {
            Self::Exponential { first, max } => {
                let doubled = 1_u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX);
                first.saturating_mul(doubled).min(max)
            }
            Self::Fixed(delay) => delay,
        }
    }
}

/// How the deliveries of one handler are run. It is stored with each of them, so that a worker of another release knows
/// it; where the handler is linked, the handler's own policy wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How many attempts there are in all; the last failure goes to the dead letters. `retries = 8` is 9 attempts.
    pub attempts_max: u32,
    /// The wait between two attempts.
    pub backoff: Backoff,
    /// How long one attempt may take.
    pub timeout: Duration,
}

impl Policy {
    /// 20 retries that wait from 1 second up to 1 hour, about 5 hours in all, and 5 minutes for one attempt.
    pub const DEFAULT: Self = Self {
        attempts_max: 21,
        backoff: Backoff::Exponential { first: Duration::from_secs(1), max: Duration::from_hours(1) },
        timeout: Duration::from_mins(5),
    };

    /// `retries = ..` in the attribute.
    #[must_use]
    pub const fn retries(mut self, retries: u32) -> Self {
        self.attempts_max = retries.saturating_add(1);
        self
    }

    /// `backoff(first, max = ..)` in the attribute.
    #[must_use]
    pub const fn backoff(mut self, first: Duration, max: Duration) -> Self {
        self.backoff = Backoff::Exponential { first, max };
        self
    }

    /// `backoff(fixed = ..)` in the attribute.
    #[must_use]
    pub const fn backoff_fixed(mut self, delay: Duration) -> Self {
        self.backoff = Backoff::Fixed(delay);
        self
    }

    /// `timeout = ..` in the attribute.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// As the attribute says it: `retries = 8, backoff("1s", max = "1h"), timeout = "30s"`.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let retries = self.attempts_max.saturating_sub(1);
        write!(f, "retries = {retries}, backoff(")?;
        match self.backoff {
            Backoff::Exponential { first, max } => write!(f, "{:?}, max = {:?}", literal(first), literal(max))?,
            Backoff::Fixed(delay) => write!(f, "fixed = {:?}", literal(delay))?,
        }
        write!(f, "), timeout = {:?}", literal(self.timeout))
    }
}

/// A duration in the longest unit of the attribute's that says it without a fraction.
pub(crate) fn literal(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let unit = units.iter().find(|(_, each)| millis > 0 && millis.is_multiple_of(*each));
    unit.map_or_else(|| format!("{millis}ms"), |(unit, each)| format!("{}{unit}", millis / each))
}
