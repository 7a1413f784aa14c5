//! An episode in which a store cannot be reached: how a loop waits it out.

use std::time::Duration;

use crate::error::{StoreError, in_one_line};

/// The waits between two tries.
const FIRST: Duration = Duration::from_millis(100);
const MAX: Duration = Duration::from_secs(5);

/// One log line at the episode's start, one at its end, and ever longer waits between.
#[derive(Default)]
pub(crate) struct Trouble {
    tries: u32,
}

impl Trouble {
    pub(crate) fn note(&mut self, doing: &str, error: &StoreError) -> Duration {
        if self.tries == 0 {
            tracing::error!(error = %in_one_line(error), "{doing} failed; trying again until it works");
        }
        self.tries = self.tries.saturating_add(1);
        let wait = FIRST.saturating_mul(1_u32.checked_shl(self.tries - 1).unwrap_or(u32::MAX));
        wait.min(MAX)
    }

    pub(crate) fn over(&mut self, doing: &str) {
        if self.tries > 0 {
            tracing::info!(tries = self.tries, "{doing} works again");
            self.tries = 0;
        }
    }
}
